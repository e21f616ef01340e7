package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// platter is a disk with a cache: what was written and not synced is on it in part or not at all when the power goes. After
// a failed sync nobody writes it any more, though it is read from memory as if it were there.
type platter struct {
	dir    string // the files, as processes see them
	stored map[string][]byte
	wrote  map[string][]piece
}

type piece struct {
	at  int64
	raw []byte
}

func (p *platter) writeAt(f *os.File, raw []byte, at int64) (int, error) {
	p.wrote[f.Name()] = append(p.wrote[f.Name()], piece{at, bytes.Clone(raw)})
	return f.WriteAt(raw, at)
}

func (p *platter) sync(f *os.File) error {
	for _, w := range p.wrote[f.Name()] {
		p.store(f.Name(), w)
	}
	delete(p.wrote, f.Name())
	return nil
}

func (p *platter) store(name string, w piece) {
	raw := p.stored[name]
	if end := int(w.at) + len(w.raw); len(raw) < end {
		raw = append(raw, make([]byte, end-len(raw))...)
	}
	copy(raw[w.at:], w.raw)
	p.stored[name] = raw
}

// cut takes the power away: of what was not synced any sector may be on the disk, or not.
func (p *platter) cut(r *rand.Rand) error {
	const sector = 512
	odds := []int{0, 1, 2, 3, 4}[r.Intn(5)] // of four
	for _, name := range slices.Sorted(maps.Keys(p.wrote)) {
		for _, w := range p.wrote[name] {
			for at := 0; at < len(w.raw); at += sector {
				if r.Intn(4) < odds {
					p.store(name, piece{w.at + int64(at), w.raw[at:min(at+sector, len(w.raw))]})
				}
			}
		}
	}
	clear(p.wrote)
	var errs []error
	list, err := filepath.Glob(filepath.Join(p.dir, "*"))
	for _, name := range list {
		errs = append(errs, os.Remove(name))
	}
	for name, raw := range p.stored {
		errs = append(errs, os.WriteFile(name, raw, 0o600))
	}
	return errors.Join(append(errs, err)...)
}

// life is one journal in the test below.
type player struct {
	*rand.Rand
	disk  *platter
	opts  Options
	armed int // at which question of the next ones the fault happens; 0: never
	fail  error

	j     *Journal
	known map[uint64]Record // what was acknowledged, or was returned by Open, by First
	tried Record            // what was not acknowledged
	next  uint64
	free  uint64
	log   []string
}

func (p *player) say(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

// fault is asked at each place.
func (p *player) fault(place string, made bool) error {
	if p.armed == 0 {
		return nil
	}
	if p.armed--; p.armed > 0 {
		return nil
	}
	p.say("fault at %s, made %v: %v", place, made, p.fail)
	return p.fail
}

func (p *player) open(t *testing.T) {
	for {
		j, records, damages, err := Open(p.opts)
		if err != nil {
			if !errors.Is(err, p.fail) {
				t.Fatalf("open says %v; %q", err, p.log)
			}
			p.say("opened in vain")
			if p.Intn(2) == 0 {
				p.cut(t)
			}
			continue
		}
		p.j = j
		p.say("opened, generation %d, %d records", j.Generation(), len(records))
		p.check(t, records, damages)
		return
	}
}

func (p *player) cut(t *testing.T) {
	p.say("power cut")
	if err := p.disk.cut(p.Rand); err != nil {
		t.Fatal(err)
	}
}

// check compares what Open returns with what was acknowledged. A crash is no damage.
func (p *player) check(t *testing.T, records []Record, damages []Damage) {
	for _, d := range damages {
		if !d.Torn || d.Grave {
			t.Fatalf("a crash is told as damage: %+v; %q", d, p.log)
		}
	}
	got := map[uint64]Record{}
	for i, r := range records {
		if i > 0 && records[i-1].End > r.First {
			t.Fatalf("record %d to %d follows one that ends with %d; %q", r.First, r.End, records[i-1].End, p.log)
		}
		want, ok := p.known[r.First]
		if !ok && r.First >= p.free {
			if want = p.tried; want.First != r.First {
				t.Fatalf("record %d to %d was never appended; %q", r.First, r.End, p.log)
			}
			p.known[r.First] = r // whoever reads it may answer by it
			p.next = r.End
		}
		if want.End > 0 && (want.End != r.End || !bytes.Equal(want.Payload, r.Payload)) {
			t.Fatalf("record %d to %d is another one; %q", r.First, r.End, p.log)
		}
		got[r.First] = r
	}
	for first, want := range p.known {
		if _, ok := got[first]; !ok && want.End > p.free {
			t.Fatalf("record %d to %d was acknowledged and is missing, free is %d; %q", first, want.End, p.free, p.log)
		}
	}
	p.tried = Record{}
}

func (p *player) append(t *testing.T) {
	size := p.Intn(9000)
	if p.Intn(12) == 0 {
		size = p.Intn(3 * slotSize)
	}
	r := Record{First: p.next, End: p.next + 1 + uint64(p.Intn(5)), Payload: make([]byte, size)}
	p.Read(r.Payload)
	if p.Intn(4) > 0 && p.next > p.free {
		p.free += uint64(p.Int63n(int64(p.next-p.free) + 1))
	}
	err := p.j.Append(buffer(r.Payload), r.First, r.End, p.free)
	p.say("append %d to %d of %d bytes, free %d: %v", r.First, r.End, size, p.free, err)
	switch {
	case err == nil:
		p.known[r.First], p.next = r, r.End
	case errors.Is(err, ErrFull):
		if len(p.j.slots) < p.opts.MaxSlots || p.free >= p.next {
			t.Fatalf("it is full with %d slots; %q", len(p.j.slots), p.log)
		}
	case !errors.Is(err, p.fail):
		t.Fatalf("append says %v; %q", err, p.log)
	default:
		p.tried = r
	}
}

// Whatever happens, what was acknowledged or returned once, and is not kept elsewhere, is returned by Open.
func playPowerCuts(t *testing.T, seed int64) {
	r := rand.New(rand.NewSource(seed))
	dir := t.TempDir()
	disk := &platter{dir: dir, stored: map[string][]byte{}, wrote: map[string][]piece{}}
	p := &player{Rand: r, disk: disk, known: map[uint64]Record{}, next: 1, free: 1, fail: errors.New("sick")}
	p.opts = Options{Dir: dir, SlotSize: slotSize, MaxSlots: 4, Fault: p.fault, writeAt: disk.writeAt, syncDir: func(string) error { return nil }}
	syncs := func(f *os.File) error {
		if p.armed > 0 && r.Intn(40) == 0 { // the disk could not write it, and the kernel has given up
			delete(disk.wrote, f.Name())
			p.armed = 0
			p.say("sync failed")
			return p.fail
		}
		return disk.sync(f)
	}
	p.opts.sync = syncs
	for range 12 {
		p.armed = r.Intn(60)
		p.open(t)
		for range r.Intn(25) {
			if p.append(t); p.tried.End > 0 {
				break
			}
		}
		p.armed = 0
		if err := p.j.Close(); err != nil {
			t.Fatal(err)
		}
		switch r.Intn(3) {
		case 0:
			p.cut(t)
		case 1:
			p.say("killed")
		case 2:
			p.say("stopped")
		}
	}
}

func TestNothingAcknowledgedIsLostByPowerCuts(t *testing.T) {
	t.Parallel()
	for seed := range int64(150) {
		playPowerCuts(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzPowerCuts(f *testing.F) {
	f.Add(int64(1))
	f.Fuzz(playPowerCuts)
}
