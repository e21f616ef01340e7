package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/store"
)

// append appends the replay's record.
func (r *replay) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = codec.AppendText(dst, r.state)
	dst = binary.AppendUvarint(dst, r.end)
	for _, n := range [...]int64{r.ended, r.total, r.takenUp, r.delivered, r.failed, r.retrying, r.passed} {
		dst = binary.AppendVarint(dst, n)
	}
	failed := byte(0)
	if r.spec.Failed {
		failed = 1
	}
	dst = append(dst, failed)
	dst = binary.AppendVarint(dst, unixMilli(r.spec.Since))
	dst = binary.AppendVarint(dst, unixMilli(r.spec.Until))
	dst = binary.AppendUvarint(dst, math.Float64bits(r.spec.Rate))
	dst = codec.AppendTexts(dst, r.spec.Types)
	dst = codec.AppendTexts(dst, r.spec.Classes)
	dst = codec.AppendSeqs(dst, 0, r.spec.Seqs)
	cursor, settled := r.position()
	dst = binary.AppendUvarint(dst, cursor)
	return codec.AppendSeqs(dst, cursor, settled)
}

func parseReplay(number uint64, record []byte) (*replay, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	r := &replay{number: number, state: string(d.Text()), end: d.Uvarint()}
	for _, n := range [...]*int64{&r.ended, &r.total, &r.takenUp, &r.delivered, &r.failed, &r.retrying, &r.passed} {
		*n = d.Varint()
	}
	r.spec.Failed = d.Byte() == 1
	for _, at := range [...]*time.Time{&r.spec.Since, &r.spec.Until} {
		if ms := d.Varint(); ms != 0 {
			*at = time.UnixMilli(ms)
		}
	}
	r.spec.Rate = math.Float64frombits(d.Uvarint())
	r.spec.Types, r.spec.Classes, r.spec.Seqs = d.Texts(), d.Texts(), d.Seqs(0)
	low := d.Uvarint()
	r.cursor = newCursor(low, d.Seqs(low))
	if !d.OK() {
		return nil, fmt.Errorf("read replay %s: %w", ReplayID(number), codec.ErrDamaged)
	}
	r.read, r.exhausted = r.next, r.state != ReplayRunning || r.next >= r.end
	if r.spec.Failed && r.state == ReplayRunning { // nobody knows whether the store had all that the last process read of it
		r.rewind()
		r.exhausted = false
	}
	return r, nil
}

// loadReplays reads the replays of all lanes.
func (q *Queue) loadReplays() error {
	lanes := *q.lanes.Load()
	return q.index.scan(store.First(store.Replay), store.Last(store.Replay), func(key store.Key, record []byte) (bool, error) {
		if int(key.Lane) >= len(lanes) || lanes[key.Lane] == nil {
			return true, nil
		}
		r, err := parseReplay(key.Number, record)
		if err != nil {
			q.damaged.Add(1)
			q.opts.Notice(fmt.Sprintf("endpoint %q: %v; the replay ends", lanes[key.Lane].name, err))
			return true, nil
		}
		r.walked = soundStore{q.index.store, math.MaxUint64} // nobody compared it yet
		lanes[key.Lane].replays = append(lanes[key.Lane].replays, r)
		return true, nil
	})
}
