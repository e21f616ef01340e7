package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"realtorbot-relay/queue/journal"
)

// A trace is what strace -f -y wrote of a relay's writes and syncs. The tracer stops each thread at the begin and the end of a
// call, so a line that stands above another happened before it, as far as one caused the other. A call during which another
// thread was seen has two lines: where it began, "<unfinished ...>", and where it ended, "<... NAME resumed>".

// call is one system call of a trace; begin and end are line numbers.
type call struct {
	name       string
	file       string // behind its descriptor
	text       string // as it is in the trace
	begin, end int
	well       bool // both false: it never ended
	failed     bool
}

// traceVerdict is what a trace shows of the answers in it.
type traceVerdict struct {
	Answers   int    `json:"answers"` // 200, accepted
	Syncs     int    `json:"syncs"`   // of the journal
	Uncovered int    `json:"uncovered"`
	Unseen    int    `json:"unseen,omitempty"`   // answers to events whose write the trace doesn't have
	Bare      int    `json:"bare,omitempty"`     // records in slots of the journal whose header no sync covers
	Reused    int    `json:"reused,omitempty"`   // slots that began anew with no save of the log behind their last record
	Failures  int    `json:"failures,omitempty"` // calls on files of the queue that failed
	First     string `json:"first_uncovered,omitempty"`
}

var (
	tracedID = regexp.MustCompile(`evt_[0-9a-f]{8}_[0-9]{9}`)
	// returned is how a call's line ends, and the number that it returned.
	returned = regexp.MustCompile(`\)\s+= (-?\d+|\?)( [^=]*)?$`)
	// syncResult is what an asynchronous sync came to.
	syncResult = regexp.MustCompile(`\bres=(-?\d+)`)
	errNoTrace = errors.New("read trace: no line of it is strace's")
)

// What a slot of the journal is called, what its header opens with, and what it is filled with when it is made.
const (
	slotFiles  = "/journal/slot-"
	slotHeader = `, "RBJOURN2`
	slotZeros  = `, "\0\0\0\0\0\0\0\0`
)

// judgeTrace checks that before the write of each answer began, a sync of the journal had ended well that had begun after
// the event was written there; that the header of a slot was synced before a record was written behind it; and that a
// slot began anew only when the log was synced after its last record. Once a write or a sync of the journal has failed, no
// later sync covers anything: the kernel may have forgotten what it could not write. Answers wait for neither the log nor
// the store, so what fails there spoils nothing.
func judgeTrace(trace io.Reader) (v traceVerdict, err error) {
	written := map[string]call{} // journal writes, by event
	synced := map[string]call{}  // the first sync of the same file that began after that
	waiting := map[string][]string{}
	bare := map[string]call{} // the last write of a header, by slot, until a sync covers it
	last := map[string]int{}  // where the last record of a slot ended, until the log was saved behind it
	logged := map[string]int{}
	spoiled := false
	var order call // the asynchronous sync under way, see queue's syncer
	cover := func(c call) {
		if ended, ok := logged[c.file]; ok && c.begin > ended {
			delete(logged, c.file)
			for slot, at := range last {
				if at < ended {
					delete(last, slot)
				}
			}
		}
		if !strings.Contains(c.file, slotFiles) {
			return
		}
		v.Syncs++
		if c.begin > bare[c.file].end {
			delete(bare, c.file)
		}
		var later []string
		for _, id := range waiting[c.file] {
			if c.begin > written[id].end {
				synced[id] = c
			} else {
				later = append(later, id)
			}
		}
		waiting[c.file] = later
	}
	err = readTrace(trace, func(c call) {
		switch {
		case c.name == "io_submit":
			if c.well && strings.Contains(c.text, "IOCB_CMD_FDSYNC") {
				order = c
			}
			return // refused, it is followed by a fdatasync
		case c.name == "io_getevents":
			result := syncResult.FindStringSubmatch(c.text)
			if c.well && result == nil {
				return // not yet
			}
			c.file, c.begin = order.file, order.begin
			c.failed = c.failed || result != nil && result[1] != "0"
		}
		switch {
		case c.failed && (strings.Contains(c.file, slotFiles) || c.name == "io_getevents"):
			v.Failures++
			spoiled = true
		case c.failed && (strings.Contains(c.file, "/data/") || c.name == "msync"):
			v.Failures++
		case spoiled || !c.well:
		case c.name == "pwrite64" && strings.Contains(c.file, "/log/"):
			logged[c.file] = c.end
		case c.name == "pwrite64" && strings.Contains(c.file, slotFiles):
			opening := c.text[:min(len(c.text), 300)]
			if strings.Contains(opening, slotHeader) {
				if _, ok := last[c.file]; ok {
					v.Reused++
					delete(last, c.file)
				}
				bare[c.file] = c
				return
			}
			if strings.Contains(opening, slotZeros) {
				return
			}
			if _, ok := bare[c.file]; ok {
				v.Bare++
			}
			last[c.file] = c.end
			for _, id := range idsOf(c.text) {
				if _, again := written[id]; !again {
					written[id] = c
					waiting[c.file] = append(waiting[c.file], id)
				}
			}
		case c.name == "fdatasync" || c.name == "io_getevents":
			cover(c)
		}
	}, func(c call) {
		if c.name != "write" || !strings.Contains(c.text, `"HTTP/1.1 200 `) || !strings.Contains(c.text, `\"accepted\"`) {
			return
		}
		v.Answers++
		id := tracedID.FindString(c.text)
		if _, ok := written[id]; !ok && !spoiled {
			v.Unseen++
		} else if sync, ok := synced[id]; !ok || sync.end >= c.begin {
			v.Uncovered++
			if v.First == "" {
				v.First = id
			}
		}
	})
	return v, err
}

// idsOf finds the ids of the events that a write to the journal has. A record that is packed has them in pieces.
func idsOf(text string) []string {
	if payload := journal.PayloadOf(unquoted(text)); payload != nil {
		text = string(payload)
	}
	return tracedID.FindAllString(text, -1)
}

// unquoted returns the bytes of the first string among the arguments of a call, which strace writes as C does.
func unquoted(text string) (raw []byte) {
	_, text, _ = strings.Cut(text, `, "`)
	for i := 0; i < len(text) && text[i] != '"'; i++ {
		if text[i] != '\\' {
			raw = append(raw, text[i])
			continue
		}
		i++
		digits := 0
		for digits < 3 && i+digits < len(text) && '0' <= text[i+digits] && text[i+digits] <= '7' {
			digits++
		}
		switch {
		case digits > 0:
			n, _ := strconv.ParseUint(text[i:i+digits], 8, 16) // they are octal digits
			raw = append(raw, byte(n))
			i += digits - 1
		case i < len(text) && strings.IndexByte("ntvfr", text[i]) >= 0:
			raw = append(raw, "\n\t\v\f\r"[strings.IndexByte("ntvfr", text[i])])
		case i < len(text):
			raw = append(raw, text[i])
		}
	}
	return raw
}

// readTrace calls ended for each call where it ends, and began where it begins, in the order of the trace.
func readTrace(trace io.Reader, ended, began func(call)) error {
	in := bufio.NewReaderSize(trace, 1<<20)
	pending := map[string]call{} // by thread
	seen := false
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(line) == 0 && err == io.EOF {
			if !seen {
				return errNoTrace
			}
			return nil
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("read trace: %w", err)
		}
		thread, rest, ok := strings.Cut(string(bytes.TrimSpace(line)), " ")
		rest = strings.TrimLeft(rest, " ")
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, "<... ") {
			if c, ok := pending[thread]; ok {
				delete(pending, thread)
				c.end = n
				c.well, c.failed = outcome(rest)
				c.text += rest
				ended(c)
			}
			continue
		}
		name, arguments, ok := strings.Cut(rest, "(")
		if !ok || strings.ContainsAny(name, " +-<") {
			continue // a signal, or the end of a thread
		}
		seen = true
		c := call{name: name, text: arguments, begin: n}
		if _, behind, ok := strings.Cut(arguments, "<"); ok {
			c.file, _, _ = strings.Cut(behind, ">")
		}
		began(c)
		if strings.HasSuffix(rest, "<unfinished ...>") {
			pending[thread] = c
			continue
		}
		c.end = n
		c.well, c.failed = outcome(rest)
		ended(c)
	}
}

// outcome reads the end of a call's line.
func outcome(line string) (well, failed bool) {
	const longest = 200
	found := returned.FindStringSubmatch(line[max(0, len(line)-longest):])
	if found == nil || found[1] == "?" {
		return false, false
	}
	failed = found[1][0] == '-'
	return !failed, failed
}

// dropOneSync takes the last sync of the journal that an answer follows out of a trace, which is how a run shows that
// judgeTrace can fail.
func dropOneSync(trace []byte) []byte {
	lines := bytes.SplitAfter(trace, []byte("\n"))
	answered := false
	for i := len(lines) - 1; i >= 0; i-- {
		if bytes.Contains(lines[i], []byte(`"HTTP/1.1 200 `)) {
			answered = true
		}
		begins := bytes.Contains(lines[i], []byte(" fdatasync(")) || bytes.Contains(lines[i], []byte(" io_submit("))
		if answered && begins && bytes.Contains(lines[i], []byte("/journal/slot-")) {
			return bytes.Join(append(lines[:i:i], lines[i+1:]...), nil)
		}
	}
	return trace
}
