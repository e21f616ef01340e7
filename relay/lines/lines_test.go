package lines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
)

const patience = 30 * time.Second

// reader stands for what the log is written to: it can stand still, and end.
type reader struct {
	mu    sync.Mutex
	got   bytes.Buffer
	fails error
	torn  int           // of a write that fails, so many bytes are taken
	still chan struct{} // not nil: a write waits until it is closed
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	still := r.still
	r.mu.Unlock()
	if still != nil {
		<-still
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		r.got.Write(p[:min(r.torn, len(p))])
		return min(r.torn, len(p)), r.fails
	}
	return r.got.Write(p)
}

func (r *reader) set(change func(*reader)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

func openOn(out io.Writer) *Log {
	return open(out, func(out io.Writer) io.Writer { return &jsonLines{out: out} }, "info")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %s: %s", patience, what)
		}
	}
}

// messages are those of the lines, with the count of missing ones behind a line that has it.
func messages(t *testing.T, text string) (all []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l struct {
			Message string
			Lines   int64
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if l.Lines > 0 {
			l.Message = fmt.Sprintf("%d missing", l.Lines)
		}
		all = append(all, l.Message)
	}
	return all
}

func TestAReaderThatStandsStillHoldsNobodyUpAndIsToldOf(t *testing.T) {
	r := &reader{still: make(chan struct{})}
	l := openOn(r)
	long := strings.Repeat("x", 1000)
	const n = 2 * room / 1000
	for range n { // this returns at all
		l.Logger.Info().Msg(long)
	}
	if dropped := l.Dropped(); dropped < n/3 || dropped > n*2/3 {
		t.Fatalf("%d of %d lines were dropped, where half have room", dropped, n)
	}
	if said := l.Trouble(); !strings.Contains(said, "nobody reads the log") || !strings.Contains(said, fmt.Sprintf("%d lines", l.Dropped())) {
		t.Errorf("the trouble is %q", said)
	}
	if l.Close(10 * time.Millisecond) {
		t.Error("all was written, it says")
	}
	close(r.still)
	<-l.w.ended

	r = &reader{still: make(chan struct{})}
	l = openOn(r)
	for range n {
		l.Logger.Info().Msg(long)
	}
	dropped := l.Dropped()
	close(r.still)
	r.set(func(r *reader) { r.still = nil })
	eventually(t, "it flows again and says so", func() bool { return l.Trouble() == "" && strings.Contains(r.text(), "missing here") })
	l.Logger.Info().Msg("after")
	if !l.Close(patience) {
		t.Fatal("not all was written")
	}
	said := messages(t, r.text())
	if tail := said[len(said)-2:]; tail[0] != fmt.Sprintf("%d missing", dropped) || tail[1] != "after" || len(said) != int(n-dropped)+2 {
		t.Errorf("%d lines, the last are %q", len(said), tail)
	}
}

func TestLinesThatCantBeWrittenAreCountedAndToldInTheirPlace(t *testing.T) {
	r := &reader{}
	l := openOn(r)
	l.Logger.Info().Msg("one")
	eventually(t, "the first is written", func() bool { return r.text() != "" })
	r.set(func(r *reader) { r.fails, r.torn = syscall.ENOSPC, 7 })
	for range 3 {
		l.Logger.Info().Msg("lost")
	}
	eventually(t, "they are counted", func() bool { return l.Dropped() == 3 })
	if said := l.Trouble(); !strings.Contains(said, "can't be written (no space left on device): 3 lines of it are lost") {
		t.Errorf("the trouble is %q", said)
	}
	r.set(func(r *reader) { r.fails = nil })
	l.Logger.Info().Msg("two")
	if !l.Close(patience) {
		t.Fatal("not all was written")
	}
	whole := ""
	for line := range strings.Lines(r.text()) {
		if strings.HasSuffix(line, "}\n") {
			whole += line // what a write left in the middle has a line of its own
		}
	}
	if got := strings.Join(messages(t, whole), ", "); got != "one, 3 missing, two" {
		t.Errorf("the log has %s:\n%s", got, r.text())
	}
	if l.Trouble() != "" {
		t.Errorf("afterwards the trouble is %q", l.Trouble())
	}
}

func TestTheLastLinesAreWaitedFor(t *testing.T) {
	r := &reader{still: make(chan struct{})}
	l := openOn(r)
	l.Logger.Info().Msg("one")
	l.Logger.Info().Msg("stopped")
	time.AfterFunc(20*time.Millisecond, func() { close(r.still) })
	if !l.Close(patience) || !strings.Contains(r.text(), "stopped") {
		t.Errorf("the log has %q", r.text())
	}
}

func TestTheMessageComesFirst(t *testing.T) {
	var out bytes.Buffer
	log := zerolog.New(&jsonLines{out: &out})
	log.Error().Str("a", `,"message":"no"`).Err(errors.New("e")).Msg(`yes, "quoted" \`)
	log.Info().Any("nested", map[string]any{"message": "no"}).Msg("yes")
	log.Warn().Msg("yes")
	log.Info().Str("a", "b").Send()
	want := `{"message":"yes, \"quoted\" \\","level":"error","a":",\"message\":\"no\"","error":"e"}` + "\n" +
		`{"message":"yes","level":"info","nested":{"message":"no"}}` + "\n" + `{"message":"yes","level":"warn"}` + "\n" +
		`{"level":"info","a":"b"}` + "\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestTheJournalGetsPrioritiesAndOthersDont(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at := info.Sys().(*syscall.Stat_t)
	write := func(stream string) string {
		t.Helper()
		t.Setenv("JOURNAL_STREAM", stream)
		l := Open(file, config.Log{Level: "debug", Format: "json"})
		l.Logger.Debug().Msg("d")
		l.Logger.Info().Msg("i")
		l.Logger.Warn().Msg("w")
		l.Logger.Error().Msg("e")
		if !l.Close(patience) {
			t.Fatal("not all was written")
		}
		text, err := os.ReadFile(file.Name())
		if err != nil || file.Truncate(0) != nil {
			t.Fatal(err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		begin := ""
		for line := range strings.Lines(string(text)) {
			begin += line[:strings.Index(line, `{"message"`)]
		}
		return begin
	}
	if got := write(fmt.Sprintf("%d:%d", at.Dev, at.Ino)); got != "<7><6><4><3>" {
		t.Errorf("the journal gets %q", got)
	}
	for _, stream := range []string{"", fmt.Sprintf("%d:%d", at.Dev, at.Ino+1)} {
		if got := write(stream); got != "" {
			t.Errorf("with JOURNAL_STREAM=%q the lines begin with %q", stream, got)
		}
	}
}
