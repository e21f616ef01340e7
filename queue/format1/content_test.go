package format1

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"testing"
)

// content is everything that a queue has, in the form that lies beside the packed queues of testdata: package queue of the
// last version that wrote format 1 made both.
type content struct {
	Next     uint64
	NextLane uint32
	Events   int64
	Bytes    int64
	Clock    int64
	Marks    []Watermark
	Frames   []contentFrame
	Kept     []contentEvent
	IDs      []contentID
	Lanes    []Lane
	Retries  []contentRetry
	Failed   []contentFailure
	Replays  []contentReplay
	Attempts []contentAttempt
}

type contentFrame struct {
	First  uint64
	At     int64
	Events []contentEvent
}

type contentEvent struct {
	Seq          uint64
	At           int64
	Source       string
	Lanes        []uint32
	ID, Type     string
	Body, Length uint32 // CRC-32C, bytes
}

type contentID struct {
	ID  string
	Seq uint64
	At  int64
}

type contentRetry struct {
	Lane     uint32
	Seq      uint64
	Due      int64
	Attempts int
	Replay   uint64
}

type contentFailure struct {
	Lane     uint32
	Seq      uint64
	At       int64
	Attempts int
	Status   int
	Class    string
	Reason   string
}

type contentReplay struct {
	Lane   uint32
	Number uint64
	Record []byte
}

type contentAttempt struct {
	Lane             uint32
	Seq              uint64
	At               int64
	Number           int
	Took, FirstByte  int64
	Status           int
	Class, Error, Ex string
	Replay           uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func eventOf(ev Event) contentEvent {
	return contentEvent{ev.Seq, ev.At, ev.Source, append([]uint32(nil), ev.Lanes...), string(ev.ID), string(ev.Type), crc32.Checksum(ev.Body, castagnoli), uint32(len(ev.Body))}
}

// laneOf is a lane as it comes out of its JSON form.
func laneOf(l Lane) Lane {
	for _, t := range l.Health.times() {
		*t = t.UTC()
	}
	return l
}

// readAll reads a queue with all methods of the reader.
func readAll(r *Reader) (c content, err error) {
	err = errors.Join(
		r.Frames(func(f *Frame) error {
			out := contentFrame{First: f.First, At: f.At}
			for _, ev := range f.Events {
				out.Events = append(out.Events, eventOf(ev))
			}
			c.Frames = append(c.Frames, out)
			return nil
		}),
		r.Retained(func(ev Event) error { c.Kept = append(c.Kept, eventOf(ev)); return nil }),
		r.IDs(func(id []byte, seq uint64, at int64) error {
			c.IDs = append(c.IDs, contentID{string(id), seq, at})
			return nil
		}),
		r.Lanes(func(l Lane) error { c.Lanes = append(c.Lanes, laneOf(l)); return nil }),
		r.Retries(func(lane uint32, seq uint64, due int64, attempts int, replay uint64) error {
			c.Retries = append(c.Retries, contentRetry{lane, seq, due, attempts, replay})
			return nil
		}),
		r.Failed(func(lane uint32, f Failure) error {
			c.Failed = append(c.Failed, contentFailure{lane, f.Seq, f.At.UnixMilli(), f.Attempts, f.Status, f.Class, f.Reason})
			return nil
		}),
		r.Replays(func(lane uint32, number uint64, record []byte) error {
			c.Replays = append(c.Replays, contentReplay{lane, number, append([]byte(nil), record...)})
			return nil
		}),
		r.Attempts(func(lane uint32, seq uint64, a Attempt) error {
			c.Attempts = append(c.Attempts, contentAttempt{
				lane, seq, a.At.UnixMilli(), a.Number, int64(a.Took), int64(a.FirstByte), a.Status, a.Class, a.Error, string(a.Excerpt), a.Replay,
			})
			return nil
		}),
	)
	s, err2 := r.State()
	err = errors.Join(err, err2)
	c.Next, c.NextLane, c.Events, c.Bytes, c.Clock, c.Marks = s.Next, s.NextLane, s.Events, s.Bytes, s.Clock.Now, s.Watermarks
	return c, err
}

var contents = map[string]*content{} // by queue, once read

// mustContent reads what a packed queue holds. It is shared.
func mustContent(t testing.TB, name string) content {
	t.Helper()
	if contents[name] == nil {
		c := new(content)
		if err := json.Unmarshal(mustUnzip(t, "testdata/"+name+".json.gz"), c); err != nil {
			t.Fatal(err)
		}
		contents[name] = c
	}
	return *contents[name]
}
