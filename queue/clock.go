package queue

import (
	"encoding/hex"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the queue's own time. All that the queue stores is stamped with it, and all its periods are measured in it: dedup
// window, both retentions, age of a delivery, due time of a retry. It runs at the pace of the monotonic clock, whatever the
// wall clock is set to, and never backwards. So a wall clock that is an hour off, or in 1970, shortens and lengthens
// nothing. Times for people are converted to the wall clock when they are shown.
//
// After a restart within one boot, queue time goes on by the time since the boot. After a reboot only the wall clock can say
// how long the machine was off: it is believed when it is later than ever before, else no time has passed. So a boot in 1970
// adds no 55 years at the boot after it: correcting a clock is not time that passed.
//
// Where it stood is in the checkpoint, which is not synced: a power cut or damage can take it. Queue time is never behind what the
// log is stamped with, whatever the wall clock says then.
//
// While nobody sets the wall clock, both clocks agree. A clock is immutable and safe for concurrent use.
type clock struct {
	base   int64 // queue time at the anchor, Unix milliseconds
	anchor int64 // of the monotonic clock, milliseconds
	wall   int64 // the wall clock at the anchor, never earlier than one that was believed before, Unix milliseconds
}

// clockState is a reading of all clocks at one moment.
type clockState struct {
	now  int64    // queue time, Unix milliseconds
	wall int64    // Unix milliseconds; in a saved state never earlier than one that was believed before
	up   int64    // since the boot, suspends included, milliseconds; 0 when it is not known
	boot [16]byte // id of the boot
}

// clockTolerance is the difference between queue time and wall clock below which they count as equal: small steps of a
// disciplined clock stay below it.
const clockTolerance = 5_000 // milliseconds

// startClock goes on from the last saved state, zero for none. read is the present state without its queue time.
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

// notBefore is the clock from a reading of the monotonic clock on, at which queue time has come to at least at, and the wall clock was
// believed as late.
func (c *clock) notBefore(at, mono int64) *clock {
	passed := mono - c.anchor
	return &clock{base: max(c.base+passed, at), anchor: mono, wall: max(c.wall+passed, at)}
}

func near(a, b int64) bool { return max(a-b, b-a) <= clockTolerance }

// at is the queue time at a reading of the monotonic clock.
func (c *clock) at(mono int64) int64 { return c.base + mono - c.anchor }

// readClocks returns a function that reads the clocks at one moment: as now does, and the monotonic and the wall clock in milliseconds.
func readClocks(now func() time.Time) func() (n time.Time, mono, wall int64) {
	start := now()
	return func() (n time.Time, mono, wall int64) {
		n = now()
		return n, n.Sub(start).Milliseconds(), n.UnixMilli()
	}
}

// sinceBoot returns for how long the machine has been up, in milliseconds, and the id of that boot.
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
	_, mono, read.wall = q.opts.clocks()
	if q.opts.up != nil {
		read.up, read.boot = q.opts.up()
	}
	q.boot = read.boot
	q.clock = startClock(last, read, mono)
}

// raiseClock has queue time go on from what something in the log is stamped with, when it stands before that. Nothing else runs yet.
func (q *Queue) raiseClock(at int64) {
	if _, mono, _ := q.opts.clocks(); at > q.clock.at(mono) {
		q.clock = q.clock.notBefore(at, mono)
	}
}

// now is the queue time, Unix milliseconds.
func (q *Queue) now() int64 {
	_, mono, _ := q.opts.clocks()
	return q.clock.at(mono)
}

// clockState reads all clocks.
func (q *Queue) clockState() clockState {
	_, mono, wall := q.opts.clocks()
	s := clockState{now: q.clock.at(mono), wall: max(wall, q.clock.wall+mono-q.clock.anchor), boot: q.boot}
	if q.opts.up != nil {
		s.up, _ = q.opts.up()
	}
	return s
}

// sameTime is more than what rounding to milliseconds makes of a time: times that differ by less are the same one.
const sameTime = 10 * time.Millisecond

// loaded converts a queue time that was saved to a time of this process, as lanes use it: it has a reading of the monotonic clock, so
// that it stays as far away as it is, whatever the wall clock is set to.
func (q *Queue) loaded(at time.Time) time.Time {
	n, mono, _ := q.opts.clocks()
	t := n.Add(time.Duration(at.UnixMilli()-q.clock.at(mono)) * time.Millisecond)
	if off := at.Sub(t); off.Abs() < sameTime {
		t = t.Add(off)
	}
	return t
}

// toSave converts a time of this process to queue time, by the monotonic clock where t has a reading of it: the wall clock may have been
// set since t was read. It is the inverse of loaded.
func (q *Queue) toSave(t time.Time) time.Time {
	n, mono, _ := q.opts.clocks()
	saved := time.UnixMilli(q.clock.at(mono) + t.Sub(n).Milliseconds())
	if saved.Sub(t).Abs() < sameTime {
		return time.UnixMilli(t.UnixMilli())
	}
	return saved
}

// shown converts a queue time to the wall clock's, Unix milliseconds.
func (q *Queue) shown(at int64) int64 {
	_, mono, wall := q.opts.clocks()
	if now := q.clock.at(mono); !near(now, wall) {
		return at + wall - now
	}
	return at
}

// stamp converts a time that somebody read off the wall clock as it is now to queue time; see toSave.
func (q *Queue) stamp(t time.Time) int64 { return 2*t.UnixMilli() - q.shown(t.UnixMilli()) }

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (q *Queue) stampOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return q.stamp(t)
}

var started = time.Now()

// uptime is the time since 36 years before the process began, in nanoseconds, by the monotonic clock. So it is positive also where
// time is simulated and begins in 2000, and zero is long ago.
func uptime() int64 { return int64(time.Since(started)) + 1<<60 }

// since is the time that has passed since a reading of uptime.
func since(began int64) time.Duration { return time.Duration(uptime() - began) }
