package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"sync"
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
)

// Relay is a running relay.
type Relay struct {
	config *config.Config // as it was at the start
	file   string         // its absolute path
	log    zerolog.Logger
	queue  *queue.Queue
	post   *delivery.Post
	intake *ingest.Intake
	desk   *alert.Desk
	heart  *alert.Heartbeat
	tell   struct { // desk and heart
		cancel context.CancelFunc
		ended  sync.WaitGroup
	}

	certificate *certificate // nil without TLS

	addresses []net.Addr // of the intake

	turn     sync.Mutex     // held by whoever reloads
	current  *config.Config // what was applied last
	stopping bool

	admin                     *admin.Admin
	intakeServer, adminServer *fasthttp.Server
	serving                   sync.WaitGroup
	broken                    chan error
}

const (
	intakeConnections = 4096
	intakePerAddress  = 1024 // a proxy in front of the relay is one address
	adminConnections  = 256
	adminPerAddress   = 64
	adminBody         = 64 << 10

	// intakeGrace is how long a stop waits for requests that are still being sent: a slow sender must not use up the
	// time of the deliveries.
	intakeGrace = 2 * time.Second
)

// Start opens the queue, starts delivering and serves the listeners, which it owns from then on. When it returns nil,
// events are accepted.
func Start(cfg *config.Config, version string, log zerolog.Logger, intake, adm []net.Listener) (r *Relay, err error) {
	r = &Relay{config: cfg, log: log, current: cfg, broken: make(chan error, 1+len(intake)+len(adm))}
	defer func() {
		if err != nil {
			for _, ln := range append(intake, adm...) {
				_ = ln.Close()
			}
		}
	}()
	if r.file, err = filepath.Abs(cfg.Path); err != nil {
		return nil, err
	}
	for _, ln := range intake {
		if err := CheckSources(ln.Addr(), cfg.Server, cfg.Sources); err != nil {
			return nil, err
		}
		r.addresses = append(r.addresses, ln.Addr())
	}
	if r.certificate, err = newCertificate(cfg.Server, log); err != nil {
		return nil, err
	}
	r.queue, err = queue.Open(queue.Options{
		Dir: cfg.Queue.Dir, DedupWindow: cfg.Queue.DedupWindow, Retention: cfg.Queue.Retention,
		FailedRetention: cfg.Queue.FailedRetention, MinFree: cfg.Queue.MinFree,
		Notice: func(line string) { log.Warn().Msg(line) },
	})
	if err != nil {
		return nil, err
	}
	r.post, err = delivery.NewPost(r.queue, cfg.Endpoints, version, log, nil)
	if err != nil {
		return nil, errors.Join(err, r.queue.Close())
	}
	r.intake, err = ingest.New(cfg.Sources, int(cfg.Server.MaxBody), r.queue, r.post.Route, log)
	if err != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		r.post.Stop(ended)
		return nil, errors.Join(err, r.queue.Close())
	}
	r.startTelling(version)
	r.admin = &admin.Admin{
		Queue: r.queue, Post: r.post, Intake: r.intake,
		Token: cfg.Admin.Token, Version: version, Started: time.Now(), Log: log,
		Reload: r.ReloadFile, Raised: r.desk.Raised,
	}
	if r.certificate != nil {
		r.admin.Certificate = r.certificate.state
		for i := range intake {
			intake[i] = r.certificate.listener(intake[i])
		}
	}
	r.intakeServer = answer.Server(r.intake.Handle, answer.Limits{
		Body: int(cfg.Server.MaxBody), Connections: intakeConnections, Stream: true, Refuses: r.intake.Refuses,
	}, r.panicked)
	r.adminServer = answer.Server(r.admin.Handle, answer.Limits{Body: adminBody, Connections: adminConnections}, r.panicked)
	r.serve(r.intakeServer, intake, answer.Share{All: intakeConnections, PerAddress: intakePerAddress, Health: r.intake.Health})
	r.serve(r.adminServer, adm, answer.Share{All: adminConnections, PerAddress: adminPerAddress})
	return r, nil
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
	case <-r.queue.Failed():
		r.broken <- fmt.Errorf("the queue can't write any more, events are refused: %w", r.queue.Err())
	case <-ctx.Done():
	}
}

// Stalled is for how long a write to disk has been under way; 0 when none is.
func (r *Relay) Stalled() time.Duration { return r.queue.Stalled() }

// Stop ends the relay. What is under way has until ctx is done. It returns what could not be saved.
func (r *Relay) Stop(ctx context.Context) error {
	r.turn.Lock()
	r.stopping = true
	r.turn.Unlock()
	r.intake.Close()
	grace, cancel := context.WithTimeout(ctx, intakeGrace)
	defer cancel()
	if err := r.intakeServer.ShutdownWithContext(grace); err != nil && grace.Err() == nil {
		r.log.Warn().Err(err).Msg("the intake did not close cleanly")
	}
	r.tell.cancel()
	r.tell.ended.Wait()
	r.post.Stop(ctx)
	short, cancelShort := context.WithTimeout(context.Background(), time.Second)
	defer cancelShort()
	r.admin.Close()
	_ = r.adminServer.ShutdownWithContext(short) // it reads from the queue
	return r.queue.Close()
}
