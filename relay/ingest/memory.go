package ingest

import (
	"runtime"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

// budgets are what all requests may hold together: those that have shown their credential in shares by source, the others in
// shares by address, and how many bodies that are much work are read or verified at a time. All that is large is taken from it before it is
// allocated.
type budgets struct {
	known, strangers   *budget
	windows            *budget // what unpacking takes besides, for requests that have not shown their credential
	addressShare       int64
	parsing, verifying *semaphore
}

const (
	// leastMemory and mostMemory bound what is held for requests with a credential, in bytes; between them it is a third of
	// what the process may take.
	leastMemory, mostMemory = 16 << 20, 64 << 20
	// bodiesKnown, bodiesStrange and bodiesAddress are how many of the largest bodies there is room for, whatever the
	// machine: with a credential, without one, and without one from one address. A request takes up to four times its body.
	bodiesKnown, bodiesStrange, bodiesAddress = 8, 6, 4
	// semaphoreWait is how long a large body waits for a semaphore.
	semaphoreWait = 10 * time.Second
)

func newBudgets(maxBody int) budgets {
	all, body := min(max(debug.SetMemoryLimit(-1)/3, leastMemory), mostMemory), int64(maxBody)
	strange, processors := max(all/2, bodiesStrange*body), runtime.GOMAXPROCS(0)
	strangers := newBudget(strange)
	strangers.spare = strange / 8
	return budgets{
		known: newBudget(max(all, bodiesKnown*body)), strangers: strangers, addressShare: max(strange/4, bodiesAddress*body),
		windows: newBudget(max(strange/4, zstdBytes)),
		parsing: newSemaphore(processors), verifying: newSemaphore(max(1, processors/2)),
	}
}

// open begins to count what w holds, for a client that is authenticated or is none yet.
func (m *budgets) open(w *buffers, s *source, ctx *fasthttp.RequestCtx, authenticated bool) error {
	if authenticated {
		w.reservation.begin(m.known, owner{source: s.Name}, m.share(s), ctx.Conn())
	} else {
		w.reservation.begin(m.strangers, owner{address: answer.Group(answer.Client(ctx))}, m.addressShare, ctx.Conn())
	}
	w.parser.TakeFrom(&w.reservation)
	return w.reservation.Take(w.held())
}

// authenticate counts what w holds as its source's from here on.
func (m *budgets) authenticate(w *buffers, s *source) error {
	return w.reservation.move(m.known, owner{source: s.Name}, m.share(s))
}

// share is the most that the requests of a source may hold together. One that has others beside it leaves them a quarter.
func (m *budgets) share(s *source) int64 {
	if s.alone {
		return m.known.all
	}
	return m.known.all * 3 / 4
}
