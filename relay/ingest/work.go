package ingest

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/canonical"
)

// work is what one request needs for a moment, and what it holds of the memory that there is for all.
type work struct {
	hold          hold
	posted, plain []byte // the body as it came, and decompressed
	parser        canonical.Parser
	events        []queue.Event
	receipts      []queue.Receipt
	single        bool // the body was one event, not a batch
	out           []byte
}

// held is how many bytes a work is.
func (w *work) held() int {
	return cap(w.posted) + cap(w.plain) + w.parser.Size() + cap(w.out) +
		cap(w.events)*int(unsafe.Sizeof(queue.Event{})) + cap(w.receipts)*int(unsafe.Sizeof(queue.Receipt{}))
}

// dropBodies gives back the bodies of a request whose events have been read, when they are large: the way to disk is long.
func (w *work) dropBodies() {
	w.parser.DropBody()
	for _, body := range []*[]byte{&w.posted, &w.plain} {
		if cap(*body) > keptBody {
			w.hold.Give(cap(*body))
			*body = nil
		}
	}
}

// dropAllButAnswer gives back what sending the answer does not need.
func (w *work) dropAllButAnswer() {
	w.hold.settle()
	w.posted, w.plain, w.parser, w.events, w.receipts = nil, nil, canonical.Parser{}, nil, nil
	w.hold.Give(int(w.hold.bytes) - cap(w.out))
}

const (
	keptBytes = 64 << 10  // a work that is larger is for large requests again
	mostKept  = 512 << 10 // and one that is larger still for none
	keptBody  = 128 << 10 // a body that is larger is given back as soon as it was read
)

// works are those that wait for their next request: small ones, of which the collector takes what is too many, and a few
// large ones.
type works struct {
	small *sync.Pool
	large chan *work
}

func newWorks() works {
	return works{small: &sync.Pool{New: func() any { return new(work) }}, large: make(chan *work, 4*runtime.GOMAXPROCS(0))}
}

// get is a work for a request. It is not counted yet.
func (ws works) get(h *fasthttp.RequestHeader) *work {
	if length := h.ContentLength(); length > firstBytes || length < 0 {
		select {
		case w := <-ws.large:
			return w
		default:
		}
	}
	return ws.small.Get().(*work)
}

// putAway ends the use of a work.
func (in *Intake) putAway(w *work) {
	w.hold.end()
	w.hold.conn = nil
	w.parser.Reset()
	w.posted, w.plain, w.out = w.posted[:0], w.plain[:0], w.out[:0]
	clear(w.events)
	size := w.held()
	if size > keptBytes && size <= mostKept {
		select {
		case in.work.large <- w:
			return
		default:
		}
	}
	if size > keptBytes {
		w = new(work)
	}
	in.work.small.Put(w)
}

// budgets are what all requests may hold together: those that have shown their credential in shares by source, the others in
// shares by address, and the turns at which large bodies are worked on. All that is large is taken from it before it is
// allocated.
type budgets struct {
	known, strangers *budget
	addressShare     int64
	parsing, proving turns
}

const (
	// leastMemory and mostMemory bound what is held for requests with a credential, in bytes; between them it is a third of
	// what the process may take.
	leastMemory, mostMemory = 16 << 20, 64 << 20
	// bodiesKnown, bodiesStrange and bodiesAddress are how many of the largest bodies there is room for, whatever the
	// machine: with a credential, without one, and without one from one address. A request takes up to four times its body.
	bodiesKnown, bodiesStrange, bodiesAddress = 8, 6, 4
	// turnWait is how long a large body waits for its turn.
	turnWait = 10 * time.Second
)

func newBudgets(maxBody int) budgets {
	all, body := min(max(debug.SetMemoryLimit(-1)/3, leastMemory), mostMemory), int64(maxBody)
	strange, processors := max(all/2, bodiesStrange*body), runtime.GOMAXPROCS(0)
	return budgets{
		known: newBudget(max(all, bodiesKnown*body)), strangers: newBudget(strange), addressShare: max(strange/4, bodiesAddress*body),
		parsing: make(turns, processors), proving: make(turns, max(1, processors/2)),
	}
}

// open begins to count what w holds, for a client that is proven or is none yet.
func (m *budgets) open(w *work, s *source, ctx *fasthttp.RequestCtx, proven bool) error {
	if proven {
		w.hold.begin(m.known, party{source: s.Name}, m.share(s), ctx.Conn())
	} else {
		w.hold.begin(m.strangers, party{address: answer.Group(answer.Client(ctx))}, m.addressShare, ctx.Conn())
	}
	w.parser.TakeFrom(&w.hold)
	return w.hold.Take(w.held())
}

// prove counts what w holds as its source's from here on.
func (m *budgets) prove(w *work, s *source) error {
	return w.hold.move(m.known, party{source: s.Name}, m.share(s))
}

// share is the most that the requests of a source may hold together. One that has others beside it leaves them a quarter.
func (m *budgets) share(s *source) int64 {
	if s.alone {
		return m.known.all
	}
	return m.known.all * 3 / 4
}

// turns are those at which large bodies are worked on: what they take of processors and memory follows from how many
// there are, not from how many clients come.
type turns chan struct{}

// during does what is to be done at its turn, at once if it is not large: then body is 0, and else the bytes of the body,
// twice of which w takes ahead. It reports false when there is no room or the turn did not come.
func (t turns) during(w *work, body int, do func()) bool {
	if body == 0 {
		do()
		return true
	}
	if w.hold.takeAhead(2*body) != nil {
		return false
	}
	defer w.hold.settle()
	select {
	case t <- struct{}{}:
	default:
		late := time.NewTimer(turnWait)
		defer late.Stop()
		select {
		case t <- struct{}{}:
		case <-late.C:
			return false
		}
	}
	defer func() { <-t }()
	do()
	return true
}
