package relay

import (
	"context"
	"fmt"
	"time"

	"realtorbot-relay/relay/alert"
	"realtorbot-relay/relay/delivery"
)

// stalledBeat is how long a write to disk may take before the heartbeat stops.
const stalledBeat = 20 * time.Second

// startTelling starts the goroutines that tell others how the relay is. They end before what they look at, when the context
// that it returns is done.
func (r *Relay) startTelling(version string) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	r.tell.cancel = cancel
	r.desk = &alert.Desk{Queue: r.queue, Post: r.post, Certificates: r.certificates, Log: r.log}
	r.heart = alert.NewHeartbeat(r.current.Heartbeat, r.isWell, version, r.log)
	r.tell.ended.Go(func() { r.desk.Run(ctx) })
	r.tell.ended.Go(func() { r.heart.Run(ctx) })
	return ctx
}

// isWell is what the heartbeat stands for: events are accepted, and writes end. That an endpoint is down or paused is
// for alerts to tell.
func (r *Relay) isWell() bool { return r.intake.Ready() == nil && r.queue.Stalled() < stalledBeat }

// certificates are those that an operator has to have renewed.
func (r *Relay) certificates() (list []alert.Certificate) {
	for _, own := range []*certificate{r.certificate, r.adminCertificate} {
		if ends, _ := own.state(); !ends.IsZero() {
			list = append(list, alert.Certificate{What: "the relay's own certificate, " + own.files.Section + ".tls_cert,", Expires: ends})
		}
	}
	for _, s := range r.post.Statuses() {
		if s.State == delivery.StateOrphaned {
			continue
		}
		if s.CertificateExpires != nil {
			list = append(list, alert.Certificate{Endpoint: s.Name, Expires: *s.CertificateExpires,
				What: fmt.Sprintf("the certificate of endpoint %q", s.Name)})
		}
		if s.ClientCertificateExpires != nil {
			list = append(list, alert.Certificate{Endpoint: s.Name, Expires: *s.ClientCertificateExpires,
				What: fmt.Sprintf("client_cert of endpoint %q", s.Name)})
		}
	}
	return list
}
