package admin

import (
	"bufio"
	"context"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

const (
	// maxStreams is how many answers that go on may be open at a time.
	maxStreams = 32
	// streamBeat is how often one that has nothing to say shows that it is there.
	streamBeat = 10 * time.Second
	// streamWriteTimeout is how long a reader may take nothing. It then loses its connection, and can come back to where it was.
	streamWriteTimeout = 20 * time.Second
	// streamBuffer is how many bytes are gathered before they are written.
	streamBuffer = 8 << 10
)

// streams are the answers that go on: server-sent events, each written by a goroutine of its own, which ends with its reader or with
// close. The zero value is ready. Safe for concurrent use.
type streams struct {
	mu     sync.Mutex
	open   map[*eventStream]struct{}
	closed bool
	none   chan struct{} // made by close, closed when the last one has ended
}

// hasRoom reports whether one more may begin now. It keeps no place: begin does.
func (s *streams) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasRoomLocked()
}

func (s *streams) hasRoomLocked() bool { return !s.closed && len(s.open) < maxStreams }

// begin takes a place for l. It returns false when there is none, or no more answers begin. Who calls it calls end.
func (s *streams) begin(l *eventStream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasRoomLocked() {
		return false
	}
	if s.open == nil {
		s.open = make(map[*eventStream]struct{})
	}
	s.open[l] = struct{}{}
	return true
}

func (s *streams) end(l *eventStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
	if len(s.open) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
}

// close ends all, also those that wait for a slow reader, and waits for them until ctx is done. It is called once.
func (s *streams) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	none := make(chan struct{})
	if len(s.open) == 0 {
		close(none)
	} else {
		s.none = none
	}
	for l := range s.open {
		l.end()
	}
	s.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}

// eventStream is one answer that goes on. What it writes is gathered until pause, or until streamBuffer bytes are.
type eventStream struct {
	*bufio.Writer
	ending chan struct{} // closed when the answer is to end
	gone   chan struct{} // closed when the reader has left
	said   time.Time     // when something was written last

	mu   sync.Mutex // of conn's deadlines
	conn net.Conn
}

// end has the answer end, once.
func (l *eventStream) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ending:
		return
	default:
	}
	close(l.ending)
	_ = l.conn.SetDeadline(time.Unix(1, 0))
}

// deadlineWriter writes to the reader, which has streamWriteTimeout to take it, unless the answer is to end.
type deadlineWriter struct{ *eventStream }

// Write is for the bufio.Writer.
func (p deadlineWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	if !p.going() {
		p.mu.Unlock()
		return 0, net.ErrClosed
	}
	err := p.conn.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}

// live answers with server-sent events for as long as run goes on.
func (a *Admin) live(ctx *fasthttp.RequestCtx, run func(*eventStream)) {
	const kind = "text/event-stream"
	a.serveStream(ctx, kind, func(l *eventStream) {
		_, _ = l.Write(append(answer.Head(200, kind, "X-Accel-Buffering: no"), "retry: 2000\n\n"...))
		run(l)
	})
}

// serveStream answers with what run writes, from the first byte of the answer on, for as long as it goes on. fasthttp bounds the
// time of an answer, so this takes the connection out of its hands.
func (a *Admin) serveStream(ctx *fasthttp.RequestCtx, kind string, run func(*eventStream)) {
	if ctx.IsHead() {
		ctx.SetContentType(kind)
		return
	}
	if !a.streams.hasRoom() {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "5")
		answer.Error(ctx, 503, "unavailable", noPlace)
		return
	}
	ctx.HijackSetNoResponse(true)
	// Whether this is ever called is fasthttp's matter: it is not when an answer to an earlier request of the connection
	// can't be written. So nothing is taken before.
	ctx.Hijack(func(conn net.Conn) { a.serveOn(conn, run) })
}

const noPlace = "too many streams are open, or the relay is stopping: come again in a moment"

// serveOn has an answer go on, if there is a place for it.
func (a *Admin) serveOn(conn net.Conn, run func(*eventStream)) {
	l := &eventStream{ending: make(chan struct{}), gone: make(chan struct{}), conn: conn}
	l.Writer = bufio.NewWriterSize(deadlineWriter{l}, streamBuffer)
	if !a.streams.begin(l) { // the last place went to another meanwhile
		_ = conn.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		_, _ = conn.Write(append(answer.Head(503, "application/json", "Retry-After: 5"), answer.Failure("unavailable", noPlace)...))
		return
	}
	defer a.streams.end(l)
	a.run(l, run)
}

// run begins the answer and has it go on until it ends. A panic of it is one failed answer.
func (a *Admin) run(l *eventStream, run func(*eventStream)) {
	var reading sync.WaitGroup
	_ = l.conn.SetReadDeadline(time.Time{})
	reading.Go(l.awaitReader)
	defer func() {
		if what := recover(); what != nil {
			a.Log.Error().Any("panic", what).Str("stack", string(debug.Stack())).Msg("a stream made the relay fail and ends; others are not touched")
		}
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
		reading.Wait()
	}()
	run(l)
	_ = l.Flush()
}

// awaitReader reads, since that is how a reader that leaves is seen; what it sends is nothing.
func (l *eventStream) awaitReader() {
	defer close(l.gone)
	var none [64]byte
	for {
		if _, err := l.conn.Read(none[:]); err != nil {
			return
		}
	}
}

// pause writes what is gathered and waits. It returns false when the answer is to end.
func (l *eventStream) pause(wait time.Duration) bool {
	if l.Buffered() > 0 {
		l.said = time.Now()
	} else if time.Since(l.said) > streamBeat {
		_, _ = l.WriteString(":\n\n")
		l.said = time.Now()
	}
	if l.Flush() != nil {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	case <-l.ending:
		return false
	}
}

// going reports, without writing, whether the answer goes on.
func (l *eventStream) going() bool {
	select {
	case <-l.gone:
		return false
	case <-l.ending:
		return false
	default:
		return true
	}
}
