package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"realtorbot-relay/queue/codec"
	"realtorbot-relay/queue/store"
)

func (r *replay) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = codec.AppendText(dst, r.state)
	dst = binary.AppendUvarint(dst, r.to)
	for _, n := range [...]int64{r.ended, r.total, r.taken, r.good, r.failed, r.waiting, r.passed} {
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

// position is where to go on after a crash: below the cursor everything is settled or passed over, and so are the events
// listed.
func (r *replay) position() (cursor uint64, settled []uint64) {
	cursor = r.next
	if len(r.window) > 0 {
		cursor = r.window[0].ev.Seq
	}
	for _, f := range r.window {
		if f.settled {
			settled = append(settled, f.ev.Seq)
		}
	}
	for seq := range r.skip {
		settled = append(settled, seq)
	}
	slices.Sort(settled)
	return cursor, settled
}

func parseReplay(number uint64, record []byte) (*replay, error) {
	d := codec.Decoder{Buf: record}
	version(&d)
	r := &replay{number: number, state: string(d.Text()), to: d.Uvarint()}
	for _, n := range [...]*int64{&r.ended, &r.total, &r.taken, &r.good, &r.failed, &r.waiting, &r.passed} {
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
	r.next = d.Uvarint()
	settled := d.Seqs(r.next)
	if !d.OK() {
		return nil, fmt.Errorf("read replay %s: %w", ReplayID(number), codec.ErrDamaged)
	}
	r.read, r.walked = r.next, r.state != ReplayRunning || r.next >= r.to
	if len(settled) > 0 {
		r.skip = make(map[uint64]struct{}, len(settled))
		for _, seq := range settled {
			r.skip[seq] = struct{}{}
		}
	}
	return r, nil
}

// restoreReplays reads the replays of all lanes.
func (q *Queue) restoreReplays() error {
	lanes := *q.lanes.Load()
	return q.index.scan(store.First(store.Replay), store.Last(store.Replay), func(key store.Key, record []byte) (bool, error) {
		if int(key.Lane) >= len(lanes) || lanes[key.Lane] == nil {
			return true, nil
		}
		r, err := parseReplay(key.Number, record)
		if err != nil {
			q.damaged.Add(1)
			q.opts.Notice(fmt.Sprintf("endpoint %q: %v; it does not go on", lanes[key.Lane].name, err))
			return true, nil
		}
		lanes[key.Lane].replays = append(lanes[key.Lane].replays, r)
		return true, nil
	})
}
