package relay

import (
	"context"
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
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/relay/lastgood"
	"realtorbot-relay/relay/memory"
	"realtorbot-relay/relay/ownership"
)

// ErrOpen is why Start refuses an intake that others reach while a source asks for no credential: the configuration is at fault.
var ErrOpen = ingest.ErrOpen

// Relay is a running relay. Its exported methods may be called by several goroutines at once, but for Watch, ReturnMemory and
// Stop, each of which is one caller's.
type Relay struct {
	startConfig *config.Config // as it was at the start
	dir         string         // of the queue, an absolute path
	version     string
	log         zerolog.Logger
	lines       admin.Lines // what became of the log's lines; nil: nobody asks
	machine     Machine
	free        func() (int64, error) // free bytes where the queue is; nil asks the file system

	// There from when opened is closed.
	queue      *queue.Queue
	dispatcher *delivery.Dispatcher
	intake     *ingest.Intake
	admin      *admin.Admin
	alerter    *alert.Alerter
	heartbeat  *alert.Heartbeat
	background struct { // the goroutines of alerter, heartbeat and the logger of states
		cancel context.CancelFunc
		ended  sync.WaitGroup
	}
	opened chan struct{}

	opening  opening
	idle     memory.Idle
	handlers atomic.Pointer[handlers]
	ready    *handlers // made by open, for its caller to put in place

	certificate, adminCertificate *answer.Certificate // nil without TLS

	addresses    []net.Addr // of the intake
	adminAddress net.Addr
	exposed      atomic.Pointer[[]string] // which tokens and secrets others may guess, for health

	loading  sync.Mutex                    // held while the file is loaded and applied, so that no older file replaces a newer one; loading waits for the disk
	applying applyLock                     // held while a configuration is applied or compared, which waits for the queue's disk; other reloads and a stop, which has an end, wait for it alone
	current  atomic.Pointer[config.Config] // what was applied last
	stopping atomic.Bool
	file     *admin.ConfigFile
	versions *lastgood.Store // of the included files
	path     string          // of the file, absolute

	refused map[string]*answer.Refusals // connections, by listener; never changes

	intakeServer, adminServer, controlServer *fasthttp.Server
	serving                                  sync.WaitGroup
	broken                                   chan error
}

// adminBody is how many bytes a request to the admin listener may have.
const adminBody = 64 << 10

// handlers answer at the listeners.
type handlers struct {
	intake, admin fasthttp.RequestHandler
	refuses       func(*fasthttp.RequestHeader) bool // as in answer.Limits
	health        func() (status int, body string)   // as in answer.Share
}

// Machine is what the relay has of the machine that it runs on. The zero value is the machine itself; tests have another.
type Machine struct {
	client.Machine
	Queue func(queue.Options) queue.Options // changes what the queue is opened with; nil: nothing
}

// Start opens the queue, starts delivering and serves the listeners, which it owns from then on. When it returns nil,
// events are accepted, or Waiting says what has to change before they are: on a full disk the relay answers for itself,
// refuses events, and opens the queue as soon as it can. Start waits for the disk, up to minutes where all of the store has to be
// read.
//
// lines says what became of the lines of log, and must never wait; nil: they are not asked about.
func Start(cfg *config.Config, version string, log zerolog.Logger, lines admin.Lines, intake, adm []net.Listener) (*Relay, error) {
	return StartOn(Machine{}, cfg, version, log, lines, intake, adm)
}

// StartOn is Start on a machine of a test's own.
func StartOn(m Machine, cfg *config.Config, version string, log zerolog.Logger, lines admin.Lines, intake, adm []net.Listener) (*Relay, error) {
	r := &Relay{machine: m, startConfig: cfg, version: version, log: log, lines: lines, refused: map[string]*answer.Refusals{}}
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
	cfg := r.startConfig
	r.current.Store(cfg)
	r.opened, r.broken = make(chan struct{}), make(chan error, 3+len(intake)+len(adm))
	r.applying = make(applyLock, 1)
	if r.path, err = filepath.Abs(cfg.Path); err != nil {
		return err
	}
	r.file = admin.NewConfigFile(r.path)
	r.file.Follow(cfg)
	if r.dir, err = filepath.Abs(cfg.Queue.Dir); err != nil {
		return err
	}
	r.versions = lastgood.New(r.dir)
	if warning := ownership.RootWarning(r.dir); warning != "" {
		r.log.Warn().Str("dir", r.dir).Msg(warning)
	}
	for _, ln := range intake {
		if err := ingest.CheckSources(ln.Addr(), cfg.Server, cfg.Sources); err != nil {
			return err
		}
		r.addresses = append(r.addresses, ln.Addr())
	}
	r.adminAddress = adm[0].Addr()
	r.findExposed(cfg)
	if r.certificate, err = answer.NewCertificate(cfg.Server.TLS(), r.log); err != nil {
		return err
	}
	if r.adminCertificate, err = answer.NewCertificate(cfg.Admin.TLS(), r.log); err != nil {
		return err
	}
	serve := r.prepare(intake, adm)
	serving, err := r.firstOpen(serve)
	switch {
	case isTemporary(err):
		r.openLater(err)
	case err != nil && serving:
		r.closeServers()
		return err
	case err != nil:
		return err
	}
	if !serving {
		serve()
	}
	return nil
}

// prepare makes the servers and wraps the listeners, in place. What it returns starts to serve them.
func (r *Relay) prepare(intake, adm []net.Listener) (serve func()) {
	cfg := r.startConfig
	atIntake, atAdmin := answer.Shares(memory.Available(), cfg.Server.TLSCert != "")
	atIntake.Proxies = answer.Proxies{Networks: cfg.Server.TrustedProxies, Protocol: cfg.Server.ProxyProtocol}
	atAdmin.Proxies = answer.Proxies{Networks: cfg.Server.TrustedProxies}
	for i := range intake {
		intake[i] = answer.Introduced(intake[i], atIntake.Proxies)
	}
	r.certificate.Secure(intake)
	r.adminCertificate.Secure(adm)
	atIntake.Refused, atAdmin.Refused = r.refused["intake"], r.refused["admin"]
	atIntake.Health = func() (int, string) { return r.handlers.Load().health() }
	r.intakeServer = answer.Server(func(ctx *fasthttp.RequestCtx) { r.handlers.Load().intake(ctx) }, answer.Limits{
		Body: int(cfg.Server.MaxBody), Connections: atIntake.All, Idle: cfg.Server.IdleTimeout, Stream: true,
		Refuses: func(h *fasthttp.RequestHeader) bool { return r.handlers.Load().refuses(h) },
	}, r.panicked)
	r.adminServer = answer.Server(func(ctx *fasthttp.RequestCtx) { r.handlers.Load().admin(ctx) }, answer.Limits{
		Body: adminBody, Connections: atAdmin.All,
	}, r.panicked)
	r.controlServer = answer.Server(r.answerControl, answer.Limits{Body: adminBody, Connections: answer.ControlConnections}, r.panicked)
	return func() {
		r.serve(r.intakeServer, intake, atIntake)
		r.serve(r.adminServer, adm, atAdmin)
	}
}

// ServeControl answers at the control socket until Stop, which closes it. It is called once, after Start.
func (r *Relay) ServeControl(ln net.Listener) {
	r.serve(r.controlServer, []net.Listener{ln}, answer.Share{All: answer.ControlConnections, PerAddress: answer.ControlConnections})
}

// answerControl answers one request at the control socket.
func (r *Relay) answerControl(ctx *fasthttp.RequestCtx) {
	admin.Trust(ctx)
	r.handlers.Load().admin(ctx)
}

// serve has the server answer on the listeners. They share its connections evenly, and stay a little below its own limit.
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

// findExposed works out which tokens and secrets of a configuration others may guess, at the listeners that there are, and warns of
// those that go over the network in clear text.
func (r *Relay) findExposed(cfg *config.Config) {
	running := *cfg
	running.Server, running.Admin = r.startConfig.Server, r.startConfig.Admin
	intake := make([]string, len(r.addresses))
	for i, at := range r.addresses {
		intake[i] = answer.AddressText(at)
		for _, line := range running.SentInClear(intake[i]) {
			r.log.Warn().Str("intake", intake[i]).Msg(line)
		}
	}
	lines := running.Exposed(intake, answer.AddressText(r.adminAddress))
	r.exposed.Store(&lines)
}

// Broken yields an error when the relay can't go on: its queue failed or a listener did.
func (r *Relay) Broken() <-chan error { return r.broken }

// Watch waits for the queue to fail, which then shows in Broken, until ctx is done.
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

// Stalled returns for how long a write to disk has been under way, or a lane has made no progress although it holds deliveries; 0
// when all goes on. It takes no lock.
func (r *Relay) Stalled() time.Duration {
	if !r.isOpen() {
		return 0
	}
	return max(r.queue.Stalled(), r.dispatcher.Stalled())
}

// ReturnMemory gives memory back to the system when the relay has had nothing to do since the last call. It is called every few
// seconds.
func (r *Relay) ReturnMemory() {
	if r.isOpen() {
		r.idle.Check(r.queue.Saves())
	}
}
