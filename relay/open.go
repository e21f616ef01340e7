package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/alert"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/relay/memory"
	"realtorbot-relay/relay/ownership"
)

// opening is the state of a relay whose queue is not open yet: because opening takes long, or because the disk is full or
// read-only. The relay answers for itself, so that whoever watches it learns why, and tries again. A process that exited and was
// started again would say nothing to anybody, and might use up the limit on restarts before there is room.
type opening struct {
	why   atomic.Pointer[error] // nil once the queue is open
	stop  chan struct{}         // nil when nobody tries again
	done  sync.WaitGroup        // the goroutine that tries again
	ended sync.Once
}

const (
	// openWait is how long connections wait for the queue to be opened before they are answered without it: far longer than
	// opening takes after a clean stop, and less than clients wait.
	openWait = 2 * time.Second
	// openRetry is the time between two tries to open the queue.
	openRetry = time.Second
	// stalledHeartbeat is how long a write to disk may take before the heartbeat stops.
	stalledHeartbeat = 20 * time.Second
)

// isTemporary reports whether an error of open may go away by itself.
func isTemporary(err error) bool {
	return errors.Is(err, queue.ErrUnwritable) || errors.Is(err, queue.ErrDiskLow)
}

// filterBytes is how much of the available memory the queue may use to tell new ids from known ones: an eighth, which is enough for
// 13 million ids in 256 MiB. Where nobody knows how much there is, the queue's default holds.
func filterBytes(available uint64) int64 { return int64(available / 8) }

// open opens the queue and starts what works with it. After an error all is as it was before.
func (r *Relay) open() error {
	c := r.startConfig.Queue
	options := queue.Options{
		Dir: c.Dir, DedupWindow: c.DedupWindow, Retention: c.Retention, FailedRetention: c.FailedRetention, MinFree: c.MinFree, ExcerptBytes: c.ExcerptBytes, NoCreate: !c.Create,
		UnservedRetention: c.UnservedRetention, UnservedBytes: c.UnservedBytes,
		Notice: func(line string) { r.log.Warn().Msg(line) }, Free: r.free, FilterBytes: filterBytes(memory.Available()),
	}
	if r.machine.Queue != nil {
		options = r.machine.Queue(options)
	}
	q, err := queue.Open(options)
	if err != nil {
		return ownership.Explain(r.dir, err)
	}
	dispatcher, err := delivery.NewDispatcher(q, r.current.Load().Endpoints, r.current.Load().Server.RateBytes, r.version, r.log, r.machine.Machine)
	if err != nil {
		return errors.Join(err, q.Close())
	}
	intake, err := ingest.New(r.current.Load().Sources, int(r.startConfig.Server.MaxBody), q, func() ingest.Routes { return dispatcher.Routes() }, r.log)
	if err != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		dispatcher.Stop(ended)
		return errors.Join(err, q.Close())
	}
	r.queue, r.dispatcher, r.intake = q, dispatcher, intake
	ctx, cancel := context.WithCancel(context.Background())
	r.background.cancel = cancel
	r.alerter = &alert.Alerter{Queue: q, Dispatcher: dispatcher, Own: r.ownCertificates, Log: r.log}
	r.heartbeat = alert.NewHeartbeat(r.current.Load().Heartbeat, r.isWell, r.version, r.log)
	r.background.ended.Go(func() { r.alerter.Run(ctx) })
	r.background.ended.Go(func() { r.heartbeat.Run(ctx) })
	r.admin = &admin.Admin{
		Queue: q, Dispatcher: dispatcher, Intake: intake,
		Token: r.startConfig.Admin.Token, Version: r.version, Started: time.Now(), Log: r.log,
		Reload: r.ReloadFile, Describe: r.describe, Raised: r.alerter.Raised, Dir: r.dir, UntilLow: r.alerter.UntilLow,
		Refused: r.refused,
		Exposed: func() []string { return *r.exposed.Load() },
		Lines:   r.lines, File: r.path, Source: r.file.State,
	}
	if r.certificate != nil {
		r.admin.Certificate = r.certificate.State
	}
	if r.adminCertificate != nil {
		r.admin.OwnCertificate = r.adminCertificate.State
	}
	r.admin.Open()
	r.background.ended.Go(func() { r.admin.LogStates(ctx) })
	r.ready = &handlers{intake: intake.Handle, admin: r.admin.Handle, refuses: intake.Refuses, health: intake.Health}
	r.keep(r.current.Load())
	close(r.opened)
	return nil
}

// isWell is what the heartbeat stands for: events are accepted, and writes end. That an endpoint is down or paused is for alerts
// to tell.
func (r *Relay) isWell() bool {
	return r.intake.Ready() == nil && r.queue.Stalled() < stalledHeartbeat
}

// ownCertificates are those of the listeners, for alerts before they expire.
func (r *Relay) ownCertificates() (list []alert.Certificate) {
	for _, own := range []*answer.Certificate{r.certificate, r.adminCertificate} {
		if expires, _ := own.State(); !expires.IsZero() {
			list = append(list, alert.Certificate{What: "the relay's own certificate, " + own.Setting() + ",", Expires: expires})
		}
	}
	return list
}

// firstOpen opens the queue. Where that takes long, because all of a large store has to be read, requests are answered without a
// queue meanwhile, as on a full disk.
func (r *Relay) firstOpen(serve func()) (serving bool, err error) {
	opened := make(chan error, 1)
	began := time.Now()
	go func() { opened <- r.open() }()
	select {
	case err = <-opened:
		if err == nil {
			r.handlers.Store(r.ready)
		}
		return false, err
	case <-time.After(openWait):
	}
	r.answerWithoutQueue(fmt.Errorf("the queue has been opening since %s: all of its store has to be read", began.UTC().Format(time.RFC3339)))
	serve()
	r.log.Warn().Msg("the queue takes long to open, since all of its store is read: events are refused meanwhile")
	if err = <-opened; err == nil {
		r.handlers.Store(r.ready)
		r.opening.why.Store(nil)
		r.log.Info().Int64("duration_ms", time.Since(began).Milliseconds()).Msg("the queue is open")
	}
	return true, err
}

// Waiting says why the queue can't be opened yet, nil when it is open. It takes no lock.
func (r *Relay) Waiting() error {
	if why := r.opening.why.Load(); why != nil {
		return *why
	}
	return nil
}

// answerWithoutQueue has requests answered without a queue.
func (r *Relay) answerWithoutQueue(why error) {
	r.opening.why.Store(&why)
	adm := &admin.Waiting{
		Token: r.startConfig.Admin.Token, Log: r.log, Why: r.Waiting, Version: r.version, Started: time.Now(), Lines: r.lines,
		File: r.path, Reload: r.ReloadFile, Describe: r.describe, Source: r.file.State,
		Disk: func() (free, needed int64) {
			return queue.FreeSpace(queue.Options{Dir: r.dir, MinFree: r.startConfig.Queue.MinFree, Free: r.free})
		},
	}
	r.handlers.Store(&handlers{
		intake: ingest.HandleUnopened, admin: adm.Handle,
		refuses: func(*fasthttp.RequestHeader) bool { return true },
		health:  ingest.UnopenedHealth,
	})
}

// openLater has requests answered without a queue, and opens it as soon as that is possible.
func (r *Relay) openLater(why error) {
	r.answerWithoutQueue(why)
	r.opening.stop = make(chan struct{})
	r.opening.done.Go(func() {
		again := time.NewTicker(openRetry)
		defer again.Stop()
		for {
			select {
			case <-again.C:
			case <-r.opening.stop:
				return
			}
			if r.tryOpen() {
				return
			}
		}
	})
}

// tryOpen tries to open the queue and reports whether there is nothing left to try.
func (r *Relay) tryOpen() bool {
	r.applying.lock() // the configuration must not change meanwhile
	defer r.applying.unlock()
	switch err := r.open(); {
	case err == nil:
		r.handlers.Store(r.ready)
		r.opening.why.Store(nil)
		r.log.Info().Msg("the queue is open")
		return true
	case isTemporary(err):
		r.opening.why.Store(&err)
		return false
	default:
		r.broken <- err
		return true
	}
}

// end stops the tries and waits for the one under way.
func (o *opening) end() {
	if o.stop != nil {
		o.ended.Do(func() { close(o.stop) })
		o.done.Wait()
	}
}
