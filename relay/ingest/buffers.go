package ingest

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/canonical"
)

// buffers are what one request needs for a moment, and what it holds of the memory that there is for all.
type buffers struct {
	reservation   reservation
	posted, plain []byte // the body as it came, and decompressed
	parser        canonical.Parser
	events        []queue.Event
	lanes         []queue.LaneSet // of the events, while they are read
	words         queue.Words     // by which these are found, one after the other
	wordsTo       []int           // where those of each end
	receipts      []queue.Receipt
	single        bool // the body was one event, not a batch
	out           []byte
}

// held is how many bytes they are.
func (w *buffers) held() int {
	return cap(w.posted) + cap(w.plain) + w.parser.Size() + cap(w.out) +
		cap(w.events)*int(unsafe.Sizeof(queue.Event{})) + cap(w.receipts)*int(unsafe.Sizeof(queue.Receipt{})) +
		cap(w.lanes)*int(unsafe.Sizeof(queue.LaneSet(""))) + cap(w.words) + cap(w.wordsTo)*int(unsafe.Sizeof(0))
}

// dropBodies gives back the bodies of a request whose events have been read, when they are large: the way to disk is long.
func (w *buffers) dropBodies() {
	w.parser.DropBody()
	for _, body := range []*[]byte{&w.posted, &w.plain} {
		if cap(*body) > keptBody {
			w.reservation.Give(cap(*body))
			*body = nil
		}
	}
}

// dropAllButAnswer gives back what sending the answer does not need.
func (w *buffers) dropAllButAnswer() {
	w.reservation.settle()
	w.posted, w.plain, w.parser, w.events, w.receipts, w.lanes, w.words, w.wordsTo = nil, nil, canonical.Parser{}, nil, nil, nil, nil, nil
	w.reservation.Give(int(w.reservation.bytes) - cap(w.out))
}

const (
	keptBytes = 64 << 10  // buffers that are larger are for large requests again
	mostKept  = 512 << 10 // and one that is larger still for none
	keptBody  = 128 << 10 // a body that is larger is given back as soon as it was read
)

// bufferPools are those that wait for their next request: small ones, of which the collector takes what is too many, and a few
// large ones.
type bufferPools struct {
	small *sync.Pool
	large chan *buffers
}

func newBufferPools() bufferPools {
	return bufferPools{small: &sync.Pool{New: func() any { return new(buffers) }}, large: make(chan *buffers, 4*runtime.GOMAXPROCS(0))}
}

// get returns buffers for a request, known if it has shown its credential. They are not counted yet. Large ones are not for strangers: these
// would have to wait for more memory than their bodies need.
func (ws bufferPools) get(h *fasthttp.RequestHeader, known bool) *buffers {
	if length := h.ContentLength(); known && (length > firstBytes || length < 0) {
		select {
		case w := <-ws.large:
			return w
		default:
		}
	}
	return ws.small.Get().(*buffers)
}

// putAway ends the use of buffers.
func (in *Intake) putAway(w *buffers) {
	w.reservation.end()
	w.reservation.conn = nil
	w.parser.Reset()
	w.posted, w.plain, w.out = w.posted[:0], w.plain[:0], w.out[:0]
	clear(w.events)
	clear(w.lanes)
	size := w.held()
	if size > keptBytes && size <= mostKept {
		select {
		case in.buffers.large <- w:
			return
		default:
		}
	}
	if size > keptBytes {
		w = new(buffers)
	}
	in.buffers.small.Put(w)
}
