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
	// maxLive is how many answers that go on may be open at a time.
	maxLive = 32
	// liveBeat is how often one that has nothing to say shows that it is there.
	liveBeat = 10 * time.Second
	// liveWrite is how long a reader may take nothing. It then loses its connection, and can come back to where it was.
	liveWrite = 20 * time.Second
	// liveBuffer is how many bytes are gathered before they are written.
	liveBuffer = 8 << 10
)

// lives are the answers that go on: server-sent events, each in a goroutine of its own, which takes its place, gives it back,
// and ends with its reader or with close. The zero value is ready.
type lives struct {
	mu     sync.Mutex
	open   map[*live]struct{}
	closed bool
	none   chan struct{} // made by close, closed when the last one has ended
}

// hasRoom reports whether one more may begin now. It keeps no place: begin does.
func (s *lives) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasRoomLocked()
}

func (s *lives) hasRoomLocked() bool { return !s.closed && len(s.open) < maxLive }

// begin takes a place for l. It returns false when there is none, or no more answers begin. Who calls it calls end.
func (s *lives) begin(l *live) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasRoomLocked() {
		return false
	}
	if s.open == nil {
		s.open = make(map[*live]struct{})
	}
	s.open[l] = struct{}{}
	return true
}

func (s *lives) end(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
	if len(s.open) == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
}

// close ends all, also those that wait for a slow reader, and waits for them until ctx is done. It is called once.
func (s *lives) close(ctx context.Context) {
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

// live is one answer that goes on. What it writes is gathered until pause, or until liveBuffer is full.
type live struct {
	*bufio.Writer
	ending chan struct{} // closed when the answer is to end
	gone   chan struct{} // closed when the reader has left
	said   time.Time     // when something was written last

	mu   sync.Mutex // of conn's deadlines
	conn net.Conn
}

// end has the answer end, once.
func (l *live) end() {
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

// patient writes, giving the reader liveWrite to take it, unless the answer is to end.
type patient struct{ *live }

// Write is for the bufio.Writer.
func (p patient) Write(b []byte) (int, error) {
	p.mu.Lock()
	if !p.going() {
		p.mu.Unlock()
		return 0, net.ErrClosed
	}
	err := p.conn.SetWriteDeadline(time.Now().Add(liveWrite))
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}

// live answers with server-sent events for as long as run goes on.
func (a *Admin) live(ctx *fasthttp.RequestCtx, run func(*live)) {
	const kind = "text/event-stream"
	a.goOn(ctx, kind, func(l *live) {
		_, _ = l.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nCache-Control: no-store\r\n" +
			"X-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry: 2000\n\n")
		run(l)
	})
}

// goOn answers with what run writes, from the first byte of the answer on, for as long as it goes on. fasthttp bounds the
// time of an answer, so this takes the connection out of its hands.
func (a *Admin) goOn(ctx *fasthttp.RequestCtx, kind string, run func(*live)) {
	if ctx.IsHead() {
		ctx.SetContentType(kind)
		return
	}
	const full = "too many streams are open, or the relay is stopping: come again in a moment"
	if !a.lives.hasRoom() {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "5")
		answer.Error(ctx, 503, "unavailable", full)
		return
	}
	ctx.HijackSetNoResponse(true)
	// Whether this is ever called is fasthttp's matter: it is not when an answer to an earlier request of the connection
	// can't be written. So nothing is taken before.
	ctx.Hijack(func(conn net.Conn) {
		l := &live{ending: make(chan struct{}), gone: make(chan struct{}), conn: conn}
		l.Writer = bufio.NewWriterSize(patient{l}, liveBuffer)
		if !a.lives.begin(l) { // the last place went to another meanwhile
			_ = conn.SetWriteDeadline(time.Now().Add(liveWrite))
			_, _ = conn.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\n\r\n" +
				`{"error":{"code":"unavailable","message":"` + full + "\"}}\n"))
			return
		}
		defer a.lives.end(l)
		a.run(l, run)
	})
}

// run begins the answer and has it go on until it ends. A panic of it is one failed answer.
func (a *Admin) run(l *live, run func(*live)) {
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
func (l *live) awaitReader() {
	defer close(l.gone)
	var none [64]byte
	for {
		if _, err := l.conn.Read(none[:]); err != nil {
			return
		}
	}
}

// pause writes what is gathered and waits. It returns false when the answer is to end.
func (l *live) pause(wait time.Duration) bool {
	if l.Buffered() > 0 {
		l.said = time.Now()
	} else if time.Since(l.said) > liveBeat {
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
func (l *live) going() bool {
	select {
	case <-l.gone:
		return false
	case <-l.ending:
		return false
	default:
		return true
	}
}
