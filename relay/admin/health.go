package admin

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/alert"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/relay/rfc3339"
)

type health struct {
	Status  string   `json:"status"` // ok, degraded or failing
	Reasons []string `json:"reasons,omitempty"`
}

// state is one thing that health knows of. Its key stays the same for as long as it lasts, while figures in its text change.
type state struct{ key, text string }

// findings are why the relay is not ok, and whether it can't accept events at all.
type findings struct {
	list    []state
	failing bool
}

func (s *findings) add(key, format string, args ...any) {
	s.list = append(s.list, state{key, fmt.Sprintf(format, args...)})
}

// health is what is told of the findings.
func (s *findings) health() health {
	h := health{Status: "ok"}
	for _, it := range s.list {
		h.Reasons = append(h.Reasons, it.text)
	}
	switch {
	case s.failing:
		h.Status = "failing"
	case len(h.Reasons) > 0:
		h.Status = "degraded"
	}
	return h
}

// judge says how the relay is: failing when it can't accept events, degraded when something needs a look.
func (a *Admin) judge(statuses []delivery.Status, s queue.Stats) health {
	all := a.states(statuses, s)
	return all.health()
}

// The keys of states that are told of in the log by whoever they happen to.
const (
	keyRefusing = "refusing"
	keyEndpoint = "endpoint "
	keyLog      = "log"
	keyExposed  = "exposed "
	keyFull     = "full "
)

// states looks for all that health tells.
func (a *Admin) states(statuses []delivery.Status, s queue.Stats) (all findings) {
	now := time.Now()
	if err := a.Intake.Ready(); err != nil {
		all.failing = true
		all.add(keyRefusing, "%s", refusing(err))
	}
	for _, t := range a.Intake.Tallies() {
		if t.Full {
			all.add(keyFull+t.Source, "%s", fullText(&t))
		}
	}
	for i := range statuses {
		ep := &statuses[i]
		switch ep.State {
		case delivery.StateDown, delivery.StateOffline, delivery.StatePaused:
			all.add(keyEndpoint+ep.Name, "endpoint %q is %s: %s", ep.Name, ep.State, ep.Reason)
		case delivery.StateLimited:
			if !ep.Since.IsZero() && now.Sub(ep.Since.Time) >= delivery.ReportAfter { // else it comes and goes
				all.add(keyEndpoint+ep.Name, "endpoint %q is limited: %s", ep.Name, ep.Reason)
			}
		case delivery.StateDisabled:
			if expired := min(ep.Expired, ep.Failed); expired > 0 {
				all.add("expired "+ep.Name, "endpoint %q is disabled, and %d of its deliveries became failed (expired): they were held longer than queue.unserved_retention, or beyond queue.unserved_bytes",
					ep.Name, expired)
			}
		case delivery.StateOrphaned:
			if ep.Pending+ep.Retrying+ep.Failed > 0 {
				all.add("orphan "+ep.Name, "endpoint %q is not configured any more, and its lane holds %d pending or retrying and %d failed deliveries%s: bring the name back, or discard them with DELETE /endpoints/%s",
					ep.Name, ep.Pending+ep.Retrying, ep.Failed, ofThese(min(ep.Expired, ep.Failed)), ep.Name)
			}
		}
		if ep.Lagging && ep.State == delivery.StateUp {
			all.add("lag "+ep.Name, "endpoint %q lags: its oldest event has waited for %s", ep.Name, time.Duration(ep.LagSeconds)*time.Second)
		}
		for _, reason := range ending(ep, now) {
			all.add("certificate of "+reason, "%s", reason)
		}
	}
	if ahead, n := delivery.ClockSkew(statuses, now); math.Abs(ahead) > skewLimit {
		all.add("clock", "this machine's clock is %s %s those of the endpoints (%d heard from): set it right, receivers refuse timestamps that are minutes off",
			time.Duration(math.Abs(ahead)*float64(time.Second)).Round(time.Second), aheadOrBehind(-ahead), n)
	}
	if low := alert.LowDiskLimit(s); !all.failing && s.FreeDisk >= 0 && s.FreeDisk < low {
		all.add("disk", "the disk is getting low: %d MiB are free; below %d MiB (queue.min_free) events are refused", s.FreeDisk>>20, s.MinFree>>20)
	}
	if s.Damaged > 0 {
		all.add("damaged", "%d events or records could not be read from disk; the log says which", s.Damaged)
	}
	if a.Source != nil {
		if text := a.Source().text(); text != "" {
			all.add("file", "%s", text)
		}
		all.list = append(all.list, a.Source().included()...)
	}
	if a.Lines != nil {
		if trouble := a.Lines.Trouble(); trouble != "" {
			all.add(keyLog, "%s", trouble)
		}
	}
	for _, own := range []struct {
		section string
		state   func() (time.Time, string)
	}{{"server", a.Certificate}, {"admin", a.OwnCertificate}} {
		if own.state == nil {
			continue
		}
		ends, trouble := own.state()
		for i, reason := range certificateReasons(own.section, ends, trouble, now) {
			all.add(fmt.Sprintf("certificate %s %d", own.section, i), "%s", reason)
		}
	}
	if a.Exposed != nil {
		for _, reason := range a.Exposed() {
			all.add(keyExposed+reason, "%s", reason)
		}
	}
	return all
}

// fullText says of a source that its events are refused since it has as many as it may.
func fullText(t *ingest.SourceTally) string {
	return fmt.Sprintf("source %q is full: %d events of it with %.1f MiB are kept, its max_queued is %.1f MiB, and what it posts is refused until retention deletes some",
		t.Source, t.QueuedEvents, float64(t.QueuedBytes)/(1<<20), float64(t.MaxQueued)/(1<<20))
}

// ofThese tells how many failed for having been held too long.
func ofThese(expired int64) string {
	if expired == 0 {
		return ""
	}
	return fmt.Sprintf(", of which %d were held longer than queue.unserved_retention, or beyond queue.unserved_bytes", expired)
}

// refusing says for operators why no event is accepted.
func refusing(err error) string {
	if errors.Is(err, queue.ErrClosed) {
		return "the relay is stopping: events are refused"
	}
	return "events are refused: " + err.Error()
}

// ending tells which certificates of an endpoint end soon.
func ending(ep *delivery.Status, now time.Time) (reasons []string) {
	for _, c := range []struct {
		what string
		end  rfc3339.Time
	}{{"its receiver's certificate", ep.CertificateExpires}, {"client_cert", ep.ClientCertificateExpires}} {
		if !c.end.IsZero() && c.end.Sub(now) < client.CertificateWarning {
			reasons = append(reasons, fmt.Sprintf("endpoint %q: %s ends on %s: have it renewed", ep.Name, c.what, c.end.UTC().Format(time.RFC3339)))
		}
	}
	return reasons
}

// skewLimit is from how many seconds on a clock that differs is told. Standard Webhooks' libraries refuse timestamps
// that are five minutes off.
const skewLimit = 30

func aheadOrBehind(seconds float64) string {
	if seconds > 0 {
		return "ahead of"
	}
	return "behind"
}

func (a *Admin) health(ctx *fasthttp.RequestCtx) {
	a.answerHealth(ctx, a.judge(a.Dispatcher.Statuses(), a.Queue.Stats()))
}

// answerHealth answers with reasons to those who may see them; to others with the status alone.
func (a *Admin) answerHealth(ctx *fasthttp.RequestCtx, h health) {
	switch named := len(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) > 0; {
	case isTrusted(ctx):
	case a.Token.IsZero() && !ownHost(string(ctx.Host())), !a.Token.IsZero() && !named:
		h.Reasons = nil
	case !a.Token.IsZero() && !a.admit(ctx):
		return
	}
	status := 200
	if h.Status == "failing" {
		status = 503
	}
	answer.Value(ctx, status, h)
}
