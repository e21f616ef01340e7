package queue

import "realtorbot-relay/queue/entry"

// durableEntry is an entry that is synced in the journal.
type durableEntry struct {
	h     entry.Header
	raw   []byte
	frame *entry.Frame
	draft *entryDraft
	size  int64 // of the record in the journal; 0 but for its last entry
}

// entryDraft is what is to become an entry: a lane's progress, or a lane that is made or discarded.
type entryDraft struct {
	lane       *Lane
	saveNumber uint64 // of the lane's progress
	progress   *entry.Progress
	made       *entry.Lane
	discard    bool
}

func (g *entryDraft) kind() entry.Kind {
	switch {
	case g.progress != nil:
		return entry.KindProgress
	case g.discard:
		return entry.KindDiscard
	default:
		return entry.KindLane
	}
}

func (g *entryDraft) append(dst []byte, number uint64, at int64) []byte {
	if g.progress != nil {
		return g.progress.Append(dst, number, at)
	}
	return g.made.Append(dst, g.discard, number, at)
}

// bound is an upper bound of what append appends, in bytes.
func (g *entryDraft) bound() int {
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
