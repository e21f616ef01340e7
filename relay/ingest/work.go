package ingest

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/canonical"
)

// work is what one request needs for a moment, and what it holds of the memory that there is for all.
type work struct {
	hold          hold
	posted, plain []byte // the body as it came, and decompressed
	parser        canonical.Parser
	events        []queue.Event
	lanes         []queue.LaneSet // of the events, while they are read
	receipts      []queue.Receipt
	single        bool // the body was one event, not a batch
	out           []byte
}

// held is how many bytes a work is.
func (w *work) held() int {
	return cap(w.posted) + cap(w.plain) + w.parser.Size() + cap(w.out) +
		cap(w.events)*int(unsafe.Sizeof(queue.Event{})) + cap(w.receipts)*int(unsafe.Sizeof(queue.Receipt{})) +
		cap(w.lanes)*int(unsafe.Sizeof(queue.LaneSet("")))
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
	w.posted, w.plain, w.parser, w.events, w.receipts, w.lanes = nil, nil, canonical.Parser{}, nil, nil, nil
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
	clear(w.lanes)
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
