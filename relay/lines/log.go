package lines

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/rfc3339"
)

// Log is the relay's log. All methods are safe for concurrent use.
type Log struct {
	Logger zerolog.Logger // never waits
	w      *writer
}

// Open begins a log on file, which stays the caller's, in the form and at the level of c: for eyes when file is a terminal
// or c says so, else as JSON. Close has to follow.
func Open(file *os.File, c config.Log) *Log {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	form := func(out io.Writer) io.Writer { return &jsonLines{out: out, priorities: err == nil && isJournal(info)} }
	if c.Format == "console" || (c.Format == "auto" && terminal) {
		form = func(out io.Writer) io.Writer {
			return zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000", NoColor: !terminal || os.Getenv("NO_COLOR") != ""}
		}
	}
	return open(file, form, c.Level)
}

func open(out io.Writer, form func(io.Writer) io.Writer, level string) *Log {
	zerolog.TimeFieldFormat = rfc3339.Layout
	l := &Log{w: newWriter(out, func(missing int64) []byte {
		var text bytes.Buffer
		z := zerolog.New(form(&text)).With().Timestamp().Logger()
		z.Warn().Int64("lines", missing).Msg("lines of the log are missing here: nobody read it, or it could not be written")
		return text.Bytes()
	})}
	least, err := zerolog.ParseLevel(level)
	if err != nil {
		least = zerolog.InfoLevel
	}
	l.Logger = zerolog.New(form(adder{l.w})).Level(least).With().Timestamp().Logger()
	return l
}

// Dropped is how many lines were lost since the log was opened: nobody read it, or it could not be written. It takes no lock.
func (l *Log) Dropped() int64 { return l.w.dropped.Load() }

// Trouble says in one line what is wrong with the log, "" when nothing is.
func (l *Log) Trouble() string { return l.w.trouble() }

// Close takes no more lines and waits for those that there are, but no longer than within. It reports whether all were
// written; if not, a goroutine stays with the write that does not end.
func (l *Log) Close(within time.Duration) bool { return l.w.close(within) }

// adder is the writer as an io.Writer, which never fails.
type adder struct{ w *writer }

func (a adder) Write(p []byte) (int, error) {
	a.w.add(p)
	return len(p), nil
}

// jsonLines puts the message of zerolog's lines before the rest, and a priority before that.
type jsonLines struct {
	out        io.Writer
	priorities bool
}

// priorities are those of syslog(3).
var priorities = map[zerolog.Level]string{
	zerolog.DebugLevel: "<7>", zerolog.InfoLevel: "<6>", zerolog.WarnLevel: "<4>", zerolog.ErrorLevel: "<3>",
}

// Write writes a line of no level.
func (j *jsonLines) Write(p []byte) (int, error) { return j.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel writes a line.
func (j *jsonLines) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	text := make([]byte, 0, len(p)+len("<6>"))
	if j.priorities {
		text = append(text, priorities[level]...)
	}
	if _, err := j.out.Write(messageFirst(text, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// messageFirst appends a line whose last member, where zerolog puts it, is its message. A text within the line can't be
// taken for that member, since its quotes are escaped.
func messageFirst(dst, p []byte) []byte {
	const member, end = `,"message":"`, "\"}\n"
	at := bytes.LastIndex(p, []byte(member))
	if at < 1 || !bytes.HasSuffix(p, []byte(end)) {
		return append(dst, p...)
	}
	dst = append(dst, '{')
	dst = append(dst, p[at+1:len(p)-len("}\n")]...)
	dst = append(dst, ',')
	dst = append(dst, p[1:at]...)
	return append(dst, "}\n"...)
}

// isJournal reports whether a file is the stream that systemd's journal reads, as systemd.exec(5) says how to tell.
func isJournal(info os.FileInfo) bool {
	at, ok := info.Sys().(*syscall.Stat_t)
	return ok && strings.TrimSpace(os.Getenv("JOURNAL_STREAM")) == fmt.Sprintf("%d:%d", at.Dev, at.Ino)
}
