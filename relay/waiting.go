package relay

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/answer"
)

// waiting is how the relay is while its queue is not open: because that takes long, or because the disk is full or
// read-only. It answers for itself, so that whoever watches it learns why, and tries again: a process that ended and was started again would tell
// nobody, and might wear out the limit on restarts before there is room.
type waiting struct {
	why   atomic.Pointer[error] // nil when it is over
	stop  chan struct{}
	done  sync.WaitGroup
	ended sync.Once
}

// openAgain is how long to wait before trying to open the queue again.
const openAgain = time.Second

// mayPass reports whether an error of open may go away by itself.
func mayPass(err error) bool {
	return errors.Is(err, queue.ErrUnwritable) || errors.Is(err, queue.ErrDiskLow)
}

// Waiting says why the queue can't be opened yet, nil when it is open.
func (r *Relay) Waiting() error {
	if why := r.waiting.why.Load(); why != nil {
		return *why
	}
	return nil
}

// answerWithout has requests answered without a queue.
func (r *Relay) answerWithout(why error) {
	r.waiting.why.Store(&why)
	adm := &admin.Waiting{
		Token: r.config.Admin.Token, Log: r.log, Why: r.Waiting, Version: r.version, Started: time.Now(), Lines: r.lines,
		File: r.file, Reload: r.ReloadFile, Describe: r.describe, Source: r.source,
		Disk: func() (free, needed int64) {
			return queue.Room(queue.Options{Dir: r.dir, MinFree: r.config.Queue.MinFree, Free: r.free})
		},
	}
	r.front.Store(&front{
		intake: refuse, admin: adm.Handle,
		refuses: func(*fasthttp.RequestHeader) bool { return true },
		health:  func() (int, string) { return 503, failing },
	})
}

// wait has requests answered without a queue, and opens it when that is possible.
func (r *Relay) wait(why error) {
	r.answerWithout(why)
	r.waiting.stop = make(chan struct{})
	r.waiting.done.Go(func() {
		again := time.NewTicker(openAgain)
		defer again.Stop()
		for {
			select {
			case <-again.C:
			case <-r.waiting.stop:
				return
			}
			if r.openNow() {
				return
			}
		}
	})
}

// openNow tries to open the queue and reports whether there is nothing left to try.
func (r *Relay) openNow() bool {
	r.turn.take() // the configuration must not change meanwhile
	defer r.turn.give()
	switch err := r.open(); {
	case err == nil:
		r.front.Store(r.whole)
		r.waiting.why.Store(nil)
		r.log.Info().Msg("the queue is open: events are accepted")
		return true
	case mayPass(err):
		r.waiting.why.Store(&err)
		return false
	default:
		r.broken <- err
		return true
	}
}

// end stops the trying and waits for it.
func (w *waiting) end() {
	if w.stop != nil {
		w.ended.Do(func() { close(w.stop) })
		w.done.Wait()
	}
}

const failing = `{"status":"failing"}` + "\n"

// refuse is the intake without a queue.
func refuse(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) == "/health" && (ctx.IsGet() || ctx.IsHead()) {
		answer.JSON(ctx, 503, []byte(failing))
		return
	}
	ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(refuseFor))
	answer.Error(ctx, 503, "unavailable", "the relay's queue is not open: GET /health at its admin listener says why")
}

// refuseFor is after how many seconds a client may come again.
const refuseFor = 10
