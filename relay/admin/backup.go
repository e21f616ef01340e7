package admin

import (
	"bufio"
	"errors"
	"io"
	"net/http/httputil"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
)

// backupBuffer is how many bytes of a backup are gathered before they are written.
const backupBuffer = 64 << 10

const backupKind = "application/zstd"

// backup answers with a copy of the queue as it is. Who reads it knows by its end that it is whole; over HTTP/1.1 one that
// breaks off is also an answer that does.
func (a *Admin) backup(ctx *fasthttp.RequestCtx) {
	chunked := ctx.Request.Header.IsHTTP11()
	a.serveStream(ctx, backupKind, func(l *eventStream) {
		began := time.Now()
		b, err := a.Queue.Backup(a.Version)
		if err != nil {
			a.noBackup(l, err)
			return
		}
		defer b.Close()
		written, damaged, err := sendBackup(l, b, chunked)
		line := a.Log.Info()
		switch {
		case err != nil:
			a.Log.Warn().Err(err).Int64("size_bytes", written).Msg("a backup broke off: what was written can't be restored")
			return
		case damaged > 0:
			line = a.Log.Warn().Int("damaged", damaged)
		}
		line.Int64("size_bytes", written).Int64("events", b.Contents().Events).Dur("duration_ms", time.Since(began)).Msg("backup written")
	})
}

// noBackup answers that there is none.
func (a *Admin) noBackup(l *eventStream, err error) {
	if errors.Is(err, queue.ErrBackingUp) {
		l.refuse(409, "backup_running", "another backup is being written: one at a time, since each holds what retention would delete")
		return
	}
	a.Log.Warn().Err(err).Msg("no backup was made")
	l.refuse(503, "unavailable", whyNot("no backup was made", err))
}

// sendBackup writes a backup as the body of an answer. The reader has liveWrite for each piece.
func sendBackup(l *eventStream, b *queue.Backup, chunked bool) (written int64, damaged int, err error) {
	lines := []string{"Content-Disposition: attachment; filename=\"relay-" + b.Contents().BeganAt.Format("20060102T150405Z") + ".backup\""}
	body := io.Writer(l.Writer)
	var chunks io.WriteCloser
	if chunked {
		lines = append(lines, "Transfer-Encoding: chunked")
		chunks = httputil.NewChunkedWriter(l.Writer)
		body = chunks
	}
	_, _ = l.Write(answer.Head(200, backupKind, lines...))
	counted := &counting{w: body}
	gathered := bufio.NewWriterSize(counted, backupBuffer)
	if damaged, err = b.Write(gathered); err == nil {
		err = gathered.Flush()
	}
	if err == nil && chunked {
		err = chunks.Close()
		_, _ = l.WriteString("\r\n") // behind the last chunk there is no trailer
	}
	if err == nil {
		err = l.Flush()
	}
	return counted.n, damaged, err
}

// counting counts what is written.
type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// refuse answers with an error, in the form that all have.
func (l *eventStream) refuse(status int, code, message string) {
	_, _ = l.Write(append(answer.Head(status, "application/json"), answer.Failure(code, message)...))
}
