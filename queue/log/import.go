package log

import (
	"errors"

	"realtorbot-relay/queue/entry"
)

// Importer gathers ids of events that are not in the log, so that the log knows them: ids of a queue of an older format.
type Importer struct {
	key     entry.Key
	ids     []idPlace
	seqs    []uint64
	low     uint64
	newest  int64
	oldest  int64
	started bool
}

// Add takes an id, the sequence number of its event, and when that was accepted, queue time.
func (im *Importer) Add(id []byte, seq uint64, at int64) {
	if !im.started {
		im.started = true
		im.key, _ = newKey()
		im.low, im.oldest = seq, at
	}
	im.low, im.newest, im.oldest = min(im.low, seq), max(im.newest, at), min(im.oldest, at)
	im.ids = append(im.ids, idPlace{hash: im.key.Hash(id)})
	im.seqs = append(im.seqs, seq)
}

// Write makes the first segment of a log in dir, synced, with nothing but the ids. The first event behind it is firstEvent.
// Each id stays known for as long as the youngest.
func (im *Importer) Write(dir string, firstEvent uint64, now int64) error {
	l := &Log{opts: Options{Dir: dir, Now: func() int64 { return now }}, key: im.key}
	s, err := l.createSegment(1, 1, im.low)
	if err != nil {
		return err
	}
	for i := range im.ids {
		im.ids[i].place = uint32(im.seqs[i] - im.low)
	}
	s.endEvent, s.stripped = firstEvent, true
	s.firstAt, s.lastAt = im.oldest, im.newest
	s.ids, s.postings = im.ids, postings{}
	footer, _ := s.footer()
	_, err = s.file.WriteAt(footer, s.size)
	return errors.Join(err, s.file.Sync(), s.file.Close(), syncDir(dir))
}
