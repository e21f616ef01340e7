package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

func (r *replay) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = appendText(dst, r.state)
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
	dst = appendTexts(dst, r.spec.Types)
	dst = appendTexts(dst, r.spec.Classes)
	dst = appendSeqs(dst, 0, r.spec.Seqs)
	cursor, settled := r.position()
	dst = binary.AppendUvarint(dst, cursor)
	return appendSeqs(dst, cursor, settled)
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
	d := decoder{buf: record}
	d.version()
	r := &replay{number: number, state: string(d.text()), to: d.uvarint()}
	for _, n := range [...]*int64{&r.ended, &r.total, &r.taken, &r.good, &r.failed, &r.waiting, &r.passed} {
		*n = d.varint()
	}
	r.spec.Failed = d.byte() == 1
	for _, at := range [...]*time.Time{&r.spec.Since, &r.spec.Until} {
		if ms := d.varint(); ms != 0 {
			*at = time.UnixMilli(ms)
		}
	}
	r.spec.Rate = math.Float64frombits(d.uvarint())
	r.spec.Types, r.spec.Classes, r.spec.Seqs = d.texts(), d.texts(), d.seqs(0)
	r.next = d.uvarint()
	settled := d.seqs(r.next)
	if !d.ok() {
		return nil, fmt.Errorf("read replay %s: %w", ReplayID(number), errDamaged)
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
	return q.store.scan([]byte{kindReplay}, []byte{kindReplay}, false, func(key []byte, value func() ([]byte, error)) (bool, error) {
		id, number, ok := parseDeliveryKey(key)
		if !ok || int(id) >= len(lanes) || lanes[id] == nil {
			return true, nil
		}
		record, err := value()
		if err != nil {
			return false, err
		}
		r, err := parseReplay(number, record)
		if err != nil {
			q.damaged.Add(1)
			q.opts.Notice(fmt.Sprintf("endpoint %q: %v; it does not go on", lanes[id].name, err))
			return true, nil
		}
		lanes[id].replays = append(lanes[id].replays, r)
		return true, nil
	})
}
