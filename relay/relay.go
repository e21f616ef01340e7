package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/alert"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/relay/memory"
)

// Relay is a running relay.
type Relay struct {
	config  *config.Config // as it was at the start
	file    string         // its absolute path
	dir     string         // of the queue, an absolute path
	version string
	log     zerolog.Logger
	lines   admin.Lines           // what became of the log's lines; nil: nobody asks
	free    func() (int64, error) // free bytes where the queue is; nil asks the file system

	// There from when opened is closed.
	queue  *queue.Queue
	post   *delivery.Post
	intake *ingest.Intake
	admin  *admin.Admin
	desk   *alert.Desk
	heart  *alert.Heartbeat
	tell   struct { // desk, heart and the states of health
		cancel context.CancelFunc
		ended  sync.WaitGroup
	}
	opened chan struct{}

	waiting waiting
	rest    rest
	front   atomic.Pointer[front]
	whole   *front // made by open, for whoever called it to put in place

	certificate, adminCertificate *certificate // nil without TLS

	addresses    []net.Addr // of the intake
	adminAddress net.Addr
	exposed      atomic.Pointer[[]string] // what may be guessed, for health

	reading  sync.Mutex     // held by whoever reads the file to apply it: no later file may be replaced by an earlier one
	turn     turn           // taken by whoever reads or changes what is followed; nobody reads files while having it
	current  *config.Config // what was applied last
	stopping atomic.Bool
	loaded   loaded                            // what became of the file
	followed atomic.Pointer[[sha256.Size]byte] // sum of the file that is followed; nil: there is none

	refused map[string]*answer.Refusals // connections, by listener; never changes

	intakeServer, adminServer, controlServer *fasthttp.Server
	serving                                  sync.WaitGroup
	broken                                   chan error
}

const (
	// Of these, one address may have a quarter: a proxy in front of the relay is one.
	intakeConnections = 4096
	adminConnections  = 256

	controlConnections = 32

	adminBody = 64 << 10

	// intakeGrace is how long a stop waits for requests that are still being sent: a slow sender must not use up the
	// time of the deliveries.
	intakeGrace = 2 * time.Second
)

// front is who answers at the listeners.
type front struct {
	intake, admin fasthttp.RequestHandler
	refuses       func(*fasthttp.RequestHeader) bool // as in answer.Limits
	health        func() (status int, body string)   // as in answer.Share
}

// Start opens the queue, starts delivering and serves the listeners, which it owns from then on. When it returns nil,
// events are accepted, or Waiting says what has to change before they are: on a full disk the relay answers for itself,
// refuses events, and opens the queue as soon as it can.
//
// lines tells what became of the lines of log, which must never wait; nil: they are not asked about.
func Start(cfg *config.Config, version string, log zerolog.Logger, lines admin.Lines, intake, adm []net.Listener) (*Relay, error) {
	r := &Relay{config: cfg, version: version, log: log, lines: lines, refused: map[string]*answer.Refusals{}}
	for _, listener := range []string{"intake", "admin"} {
		r.refused[listener] = answer.NewRefusals(listener, log)
	}
	if err := r.start(intake, adm); err != nil {
		for _, ln := range append(intake, adm...) {
			_ = ln.Close()
		}
		return nil, err
	}
	return r, nil
}

func (r *Relay) start(intake, adm []net.Listener) (err error) {
	cfg := r.config
	r.current, r.opened, r.broken = cfg, make(chan struct{}), make(chan error, 3+len(intake)+len(adm))
	r.turn = make(turn, 1)
	r.loaded.at = time.Now()
	r.follow(cfg)
	if r.file, err = filepath.Abs(cfg.Path); err != nil {
		return err
	}
	if r.dir, err = filepath.Abs(cfg.Queue.Dir); err != nil {
		return err
	}
	r.warnOfOwner()
	for _, ln := range intake {
		if err := CheckSources(ln.Addr(), cfg.Server, cfg.Sources); err != nil {
			return err
		}
		r.addresses = append(r.addresses, ln.Addr())
	}
	r.adminAddress = adm[0].Addr()
	r.expose(cfg)
	if r.certificate, err = newCertificate(cfg.Server.TLS(), r.log); err != nil {
		return err
	}
	if r.adminCertificate, err = newCertificate(cfg.Admin.TLS(), r.log); err != nil {
		return err
	}
	atIntake, atAdmin := shares(descriptors())
	atIntake.Proxies = answer.Proxies{Networks: cfg.Server.TrustedProxies, Protocol: cfg.Server.ProxyProtocol}
	atAdmin.Proxies = answer.Proxies{Networks: cfg.Server.TrustedProxies}
	for i := range intake {
		intake[i] = answer.Introduced(intake[i], atIntake.Proxies)
	}
	r.certificate.secure(intake)
	r.adminCertificate.secure(adm)
	atIntake.Refused, atAdmin.Refused = r.refused["intake"], r.refused["admin"]
	atIntake.Health = func() (int, string) { return r.front.Load().health() }
	r.intakeServer = answer.Server(func(ctx *fasthttp.RequestCtx) { r.front.Load().intake(ctx) }, answer.Limits{
		Body: int(cfg.Server.MaxBody), Connections: atIntake.All, Idle: cfg.Server.IdleTimeout, Stream: true,
		Refuses: func(h *fasthttp.RequestHeader) bool { return r.front.Load().refuses(h) },
	}, r.panicked)
	r.adminServer = answer.Server(func(ctx *fasthttp.RequestCtx) { r.front.Load().admin(ctx) }, answer.Limits{
		Body: adminBody, Connections: atAdmin.All,
	}, r.panicked)
	r.controlServer = answer.Server(r.answerControl, answer.Limits{Body: adminBody, Connections: controlConnections}, r.panicked)
	serve := func() {
		r.serve(r.intakeServer, intake, atIntake)
		r.serve(r.adminServer, adm, atAdmin)
	}
	serving, err := r.firstOpen(serve)
	switch {
	case mayPass(err):
		r.wait(err)
	case err != nil && serving:
		r.shut()
		return err
	case err != nil:
		return err
	}
	if !serving {
		serve()
	}
	return nil
}

// openPatience is how long connections wait for the queue to be opened before they are answered without it: far longer
// than that takes after a clean stop, and less than clients wait.
const openPatience = 2 * time.Second

// firstOpen opens the queue. Where that takes long, because all of a large store has to be read, it has requests answered
// meanwhile, as those are that come while the disk is full.
func (r *Relay) firstOpen(serve func()) (serving bool, err error) {
	opened := make(chan error, 1)
	begun := time.Now()
	go func() { opened <- r.open() }()
	select {
	case err = <-opened:
		if err == nil {
			r.front.Store(r.whole)
		}
		return false, err
	case <-time.After(openPatience):
	}
	r.answerWithout(fmt.Errorf("the queue is being opened since %s: all of its store has to be read", begun.UTC().Format(time.RFC3339)))
	serve()
	r.log.Warn().Msg("the queue takes long to open, since all of its store is read: events are refused meanwhile")
	if err = <-opened; err == nil {
		r.front.Store(r.whole)
		r.waiting.why.Store(nil)
		r.log.Info().Str("after", time.Since(begun).Round(time.Millisecond).String()).Msg("the queue is open: events are accepted")
	}
	return true, err
}

// shut ends the servers of a relay that could not be started. Who started it closes the listeners.
func (r *Relay) shut() {
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.intakeServer.ShutdownWithContext(short)
	_ = r.adminServer.ShutdownWithContext(short)
}

// filterBytes is how much memory may tell new ids from known ones, of so much that the process may use: an eighth, which is
// enough for 13 million ids in 256 MiB. Where nobody knows how much there is, the queue's default is.
func filterBytes(available uint64) int64 { return int64(available / 8) }

// open opens the queue and joins to it what works with it. After an error all is as before.
func (r *Relay) open() error {
	q := r.config.Queue
	kept, err := queue.Open(queue.Options{
		Dir: q.Dir, DedupWindow: q.DedupWindow, Retention: q.Retention, FailedRetention: q.FailedRetention, MinFree: q.MinFree, ExcerptBytes: q.ExcerptBytes, NoCreate: !q.Create,
		UnservedRetention: q.UnservedRetention, UnservedBytes: q.UnservedBytes,
		Notice: func(line string) { r.log.Warn().Msg(line) }, Free: r.free, FilterBytes: filterBytes(memory.Available()),
	})
	if err != nil {
		return r.ofOwner(err)
	}
	post, err := delivery.NewPost(kept, r.current.Endpoints, r.current.Server.RateBytes, r.version, r.log, nil)
	if err != nil {
		return errors.Join(err, kept.Close())
	}
	intake, err := ingest.New(r.current.Sources, int(r.config.Server.MaxBody), kept, post.Route, r.log)
	if err != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		post.Stop(ended)
		return errors.Join(err, kept.Close())
	}
	r.queue, r.post, r.intake = kept, post, intake
	telling := r.startTelling(r.version)
	r.admin = &admin.Admin{
		Queue: kept, Post: post, Intake: intake,
		Token: r.config.Admin.Token, Version: r.version, Started: time.Now(), Log: r.log,
		Reload: r.ReloadFile, Describe: r.describe, Raised: r.desk.Raised, Dir: r.dir, UntilLow: r.desk.UntilLow,
		Refused: r.refused,
		Exposed: func() []string { return *r.exposed.Load() },
		Lines:   r.lines, File: r.file, Source: r.source,
	}
	if r.certificate != nil {
		r.admin.Certificate = r.certificate.state
	}
	if r.adminCertificate != nil {
		r.admin.OwnCertificate = r.adminCertificate.state
	}
	r.admin.Open()
	r.tell.ended.Go(func() { r.admin.TellStates(telling) })
	r.whole = &front{intake: intake.Handle, admin: r.admin.Handle, refuses: intake.Refuses, health: intake.Health}
	close(r.opened)
	return nil
}

// serve has the server answer on the listeners, which share its connections evenly and stay a little below its own limit.
func (r *Relay) serve(s *fasthttp.Server, listeners []net.Listener, share answer.Share) {
	share.All = (share.All - share.All/16) / len(listeners)
	for _, ln := range listeners {
		ln = answer.Limit(ln, share)
		r.serving.Go(func() {
			if err := s.Serve(ln); err != nil && !errors.Is(err, net.ErrClosed) {
				r.broken <- fmt.Errorf("serve %s: %w", ln.Addr(), err)
			}
		})
	}
}

func (r *Relay) panicked(what any) {
	r.log.Error().Any("panic", what).Str("stack", string(debug.Stack())).Msg("a request made the relay fail; others are not touched")
}

// Broken yields an error when the relay can't go on: its queue failed or a listener did.
func (r *Relay) Broken() <-chan error { return r.broken }

// Watch waits for the queue to fail, which ends up in Broken, until ctx is done.
func (r *Relay) Watch(ctx context.Context) {
	select {
	case <-r.opened:
	case <-ctx.Done():
		return
	}
	select {
	case <-r.queue.Failed():
		r.broken <- fmt.Errorf("the queue can't write any more, events are refused: %w", r.queue.Err())
	case <-ctx.Done():
	}
}

// isOpen reports whether the queue and what works with it are there.
func (r *Relay) isOpen() bool {
	select {
	case <-r.opened:
		return true
	default:
		return false
	}
}

// Stalled is for how long a write to disk has been under way or a lane has made no progress although it holds work; 0 when
// all goes on.
func (r *Relay) Stalled() time.Duration {
	if !r.isOpen() {
		return 0
	}
	return max(r.queue.Stalled(), r.post.Stalled())
}

// turn is a lock that is not waited for without end. It holds one while somebody has it.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

// takeWithin reports whether it was had before ctx was done.
func (t turn) takeWithin(ctx context.Context) bool {
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Stop ends the relay. What is under way has until ctx is done, saving it a while longer. It returns what could not be saved,
// or that something did not end: then the process has to.
func (r *Relay) Stop(ctx context.Context) error {
	return within(ctx, savingTime, func() error { return r.stop(ctx) })
}

// savingTime is how long cutting short what is under way and saving it may take after the time of a stop is over.
const savingTime = 15 * time.Second

// within bounds every wait of stop at once, whatever it waits for: until ctx is done, and so long after that.
func within(ctx context.Context, saving time.Duration, stop func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- stop() }() // it ends, or the process does
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(saving)
	defer last.Stop()
	select {
	case err := <-ended:
		return err
	case <-last.C:
		return fmt.Errorf("the stop does not end %s after its time was over, a disk that hangs or a lock may be why: what was under way is attempted again after the next start", saving)
	}
}

func (r *Relay) stop(ctx context.Context) error {
	r.stopping.Store(true)
	if !r.turn.takeWithin(ctx) {
		return errors.New("a reload does not end: nothing was saved at the stop, and what was under way is attempted again after the next start")
	}
	r.turn.give()
	r.waiting.end() // from here on the queue is there or never will be
	open := r.isOpen()
	if open {
		r.intake.Close()
	}
	grace, cancel := context.WithTimeout(ctx, intakeGrace)
	defer cancel()
	if err := r.intakeServer.ShutdownWithContext(grace); err != nil && grace.Err() == nil {
		r.log.Warn().Err(err).Msg("the intake did not close cleanly")
	}
	if open {
		r.tell.cancel()
		r.tell.ended.Wait()
		r.post.Stop(ctx)
		r.admin.Close(ctx)
	}
	short, cancelShort := context.WithTimeout(context.Background(), time.Second)
	defer cancelShort()
	_ = r.adminServer.ShutdownWithContext(short) // it reads from the queue, as the next does
	_ = r.controlServer.ShutdownWithContext(short)
	if !open {
		return nil
	}
	return r.queue.Close()
}
