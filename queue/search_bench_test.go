package queue

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSearch looks in the record of a million settled events: for what is common, what is rare, what never was, and
// at both ends of the time.
func BenchmarkSearch(b *testing.B) {
	const count = 1_000_000
	var clock int64 = 1_700_000_000_000
	q, err := Open(Options{
		Dir: filepath.Join(b.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour * 24 * 365, FailedRetention: time.Hour,
		Now: func() time.Time { return time.UnixMilli(clock) },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	crm, err := q.Lane("crm")
	if err != nil {
		b.Fatal(err)
	}
	types := []string{"lead.created", "lead.scored", "conversation.message", "email.opened", "appointment.scheduled"}
	failed := 0
	for i := 0; i < count; {
		batch := 500
		events := make([]Event, batch)
		for n := range events {
			kind := types[i%len(types)]
			if i%40_000 == 17 {
				kind = "bot.deactivated"
			}
			id := fmt.Sprint("evt_", i)
			events[n] = Event{ID: []byte(id), Type: []byte(kind), Body: append(body(id), make([]byte, 100)...), Lanes: NewLaneSet(crm.ID())}
			i++
		}
		if err := q.Append("platform", events, make([]Receipt, batch)); err != nil {
			b.Fatal(err)
		}
		clock += 50
		for taken := 0; taken < batch; {
			d, _ := crm.Take()
			if d == nil {
				time.Sleep(time.Millisecond)
				continue
			}
			taken++
			if d.Event.Seq%1000 == 0 {
				failed++
				crm.Failed(d, broken(1), "answered 500")
			} else {
				crm.Delivered(d, ok(1))
			}
		}
	}
	if err := q.settled(); err != nil {
		b.Fatal(err)
	}
	end := time.UnixMilli(clock)
	searchEach(b, q, []searchCase{
		{"newest", Query{}},
		{"common type", Query{Types: []string{"lead.created"}}},
		{"rare type", Query{Types: []string{"bot.deactivated"}}},
		{"type that never was", Query{Types: []string{"never.was"}}},
		{"rare type, oldest tenth", Query{Types: []string{"bot.*"}, Until: end.Add(-90 * time.Second)}},
		{"oldest tenth", Query{Until: end.Add(-90 * time.Second)}},
		{"before all", Query{Until: end.Add(-time.Hour)}},
		{"failed", Query{State: GivenUp}},
		{"failed, rare type", Query{State: GivenUp, Types: []string{"bot.*"}}},
		{"pending", Query{State: Pending}},
		{"delivered, rare type", Query{State: Settled, Types: []string{"bot.*"}, Lane: crm}},
	})
}

type searchCase struct {
	name  string
	query Query
}

func searchEach(b *testing.B, q *Queue, cases []searchCase) {
	for _, one := range cases {
		b.Run(one.name, func(b *testing.B) {
			for b.Loop() {
				page, err := q.Search(one.query)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(page.Events)), "found")
				b.ReportMetric(float64(min(page.Next, 1)), "more")
			}
		})
	}
}

// BenchmarkSearchQuiet looks in the record of a million events of a quiet source: each came by itself and is a block of
// its own.
func BenchmarkSearchQuiet(b *testing.B) {
	const count, start = 1_000_000, 1_700_000_000_000
	q, err := Open(Options{
		Dir: filepath.Join(b.TempDir(), "data"), DedupWindow: time.Hour, Retention: time.Hour * 24 * 365, FailedRetention: time.Hour,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	for i := 0; i < count; {
		err := q.update(func(tx *batch) error {
			for range 1000 {
				kind, id := "lead.created", fmt.Sprint("evt_", i)
				if i%4096 == 17 {
					kind = "bot.deactivated"
				}
				var d draft
				d.add("platform", &Event{ID: []byte(id), Type: []byte(kind), Body: append(body(id), make([]byte, 100)...)}, "")
				_, f := d.seal(q.end.Load(), int64(start+i*1000), 0)
				q.keeper.writeFrames(q, tx, []*frame{f})
				q.end.Store(f.end())
				q.applied.Store(f.end())
				i++
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	end := time.UnixMilli(start + count*1000)
	searchEach(b, q, []searchCase{
		{"newest", Query{}},
		{"rare type", Query{Types: []string{"bot.deactivated"}}},
		{"type that never was", Query{Types: []string{"never.was"}}},
		{"oldest tenth", Query{Until: end.Add(-900_000 * time.Second)}},
		{"rare type, oldest tenth", Query{Types: []string{"bot.*"}, Until: end.Add(-900_000 * time.Second)}},
	})
}
