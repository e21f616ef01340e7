package queue

import (
	"encoding/hex"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clock gives the queue its own time, in which all that it stores is stamped and all its periods are measured: the dedup
// window, both retentions, the age of a delivery, when a retry is due. It runs at the pace of the monotonic clock,
// whatever the wall clock is set to meanwhile, and never backwards. So an hour too many, or a boot in 1970, shortens and
// lengthens nothing; what is shown to people is turned into the wall clock's time at that moment.
//
// Across a restart within one boot it goes on by the time since the boot. Across a reboot nobody but the wall clock knows
// how long the machine was off: it is believed when it is later than it ever was, else no time has passed. So a boot in 1970
// adds no 55 years at the next one: what corrects a clock is no time that passed.
//
// As long as nobody touches the wall clock the two agree. A clock is immutable and safe for concurrent use.
type clock struct {
	base   int64 // queue time at the anchor, Unix milliseconds
	anchor int64 // of the monotonic clock, milliseconds
	wall   int64 // at the anchor: the wall clock, but never behind one that was believed before, Unix milliseconds
}

// clockState is a reading of all clocks at one moment.
type clockState struct {
	now  int64    // queue time, Unix milliseconds
	wall int64    // Unix milliseconds; of a state that was kept, never behind one that was believed before
	up   int64    // since the boot, suspends included, milliseconds; 0 when it can't be told
	boot [16]byte // id of the boot
}

// clockTolerance is how far queue time and the wall clock may be apart without being told apart: that is what small steps
// of a disciplined clock come to.
const clockTolerance = 5_000 // milliseconds

// startClock goes on from the last state that is known, zero for none. read is now's state but for its queue time.
func startClock(last, read clockState, mono int64) *clock {
	base, wall := read.wall, read.wall
	switch {
	case last.now == 0:
	case last.boot == read.boot && last.up > 0 && read.up >= last.up:
		passed := read.up - last.up
		base, wall = last.now+passed, max(read.wall, last.wall+passed)
	default:
		base, wall = last.now+max(read.wall-last.wall, 0), max(read.wall, last.wall)
	}
	if near(read.wall, base) && read.wall >= last.now {
		base = read.wall
	}
	return &clock{base: base, anchor: mono, wall: wall}
}

func near(a, b int64) bool { return max(a-b, b-a) <= clockTolerance }

// at is the queue time at a reading of the monotonic clock.
func (c *clock) at(mono int64) int64 { return c.base + mono - c.anchor }

// readClocks makes what reads the monotonic and the wall clock, in milliseconds.
func readClocks(now func() time.Time) func() (mono, wall int64) {
	start := now()
	return func() (mono, wall int64) {
		n := now()
		return n.Sub(start).Milliseconds(), n.UnixMilli()
	}
}

// sinceBoot tells for how long the machine has been up, in milliseconds, and which boot that is.
func sinceBoot() (up int64, boot [16]byte) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		_, err = hex.Decode(boot[:], []byte(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")))
	}
	var t unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0, boot
	}
	return t.Nano() / int64(time.Millisecond), boot
}

func (q *Queue) startClock(last clockState) {
	var read clockState
	var mono int64
	mono, read.wall = q.opts.clocks()
	if q.opts.up != nil {
		read.up, read.boot = q.opts.up()
	}
	q.boot = read.boot
	q.clock = startClock(last, read, mono)
}

// now is the queue time, Unix milliseconds.
func (q *Queue) now() int64 {
	mono, _ := q.opts.clocks()
	return q.clock.at(mono)
}

// clockState reads all clocks.
func (q *Queue) clockState() clockState {
	mono, wall := q.opts.clocks()
	s := clockState{now: q.clock.at(mono), wall: max(wall, q.clock.wall+mono-q.clock.anchor), boot: q.boot}
	if q.opts.up != nil {
		s.up, _ = q.opts.up()
	}
	return s
}

// due turns the queue time at which a retry is due into one that follows the monotonic clock, as those of lanes do.
func (q *Queue) due(at time.Time) time.Time {
	return q.opts.Now().Add(time.Duration(at.UnixMilli()-q.now()) * time.Millisecond)
}

// shown turns a queue time into the wall clock's.
func (q *Queue) shown(at int64) int64 {
	mono, wall := q.opts.clocks()
	if now := q.clock.at(mono); !near(now, wall) {
		return at + wall - now
	}
	return at
}

// stamp turns a time of the wall clock into queue time.
func (q *Queue) stamp(t time.Time) int64 { return 2*t.UnixMilli() - q.shown(t.UnixMilli()) }
