package queue

import "realtorbot-relay/queue/entry"

// committed is an entry that the journal has.
type committed struct {
	h        entry.Header
	raw      []byte
	frame    *entry.Frame
	gathered *gathered
	size     int64 // of the record in the journal; of its last entry only
}

// gathered is what is to become an entry: what a lane did, or a lane that is made or deleted.
type gathered struct {
	lane     *Lane
	batch    uint64 // of the lane's progress
	progress *entry.Progress
	made     *entry.Lane
	discard  bool
}

func (g *gathered) kind() entry.Kind {
	switch {
	case g.progress != nil:
		return entry.KindProgress
	case g.discard:
		return entry.KindDiscard
	default:
		return entry.KindLane
	}
}

func (g *gathered) append(dst []byte, number uint64, at int64) []byte {
	if g.progress != nil {
		return g.progress.Append(dst, number, at)
	}
	return g.made.Append(dst, g.discard, number, at)
}

// bound is more than append appends.
func (g *gathered) bound() int {
	if g.progress == nil {
		return entry.HeaderSize + len(g.made.Name) + len(g.made.Record) + 32
	}
	n := entry.HeaderSize + len(g.progress.Record) + 64
	for i := range g.progress.Changes {
		n += len(g.progress.Changes[i].Record) + 24
	}
	for i := range g.progress.Attempts {
		a := &g.progress.Attempts[i]
		n += len(a.Class) + len(a.Error) + len(a.Excerpt) + 120
	}
	return n
}
