package admin

import (
	"math"
	"runtime"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/ingest"
	"realtorbot-relay/relay/rfc3339"
)

// stats is the form of /stats.
type stats struct {
	Version       string            `json:"version"`
	Started       rfc3339.Time      `json:"started_at"`
	UptimeSeconds int64             `json:"uptime_seconds"`
	Health        health            `json:"health"`
	Queue         queueStats        `json:"queue"`
	Totals        totals            `json:"totals"`
	ClockSkew     *float64          `json:"clock_skew_seconds,omitempty"` // how far the endpoints' clocks are ahead of this machine's
	Certificate   *certificate      `json:"certificate,omitempty"`
	Process       processStats      `json:"process"`
	Sources       []sourceStats     `json:"sources"`
	Endpoints     []delivery.Status `json:"endpoints"`
}

// sourceStats are of what is kept of a source now, and since the start.
type sourceStats struct {
	Name         string `json:"name"`
	Accepted     int64  `json:"accepted"`
	Duplicates   int64  `json:"duplicates"`
	QueuedEvents int64  `json:"queued_events"`
	QueuedBytes  int64  `json:"queued_bytes"`
	MaxQueued    int64  `json:"max_queued_bytes,omitempty"` // 0: any number
	Full         bool   `json:"full,omitempty"`
	Refused      int64  `json:"requests_source_full"`
}

func (a *Admin) sources() []sourceStats {
	tallies := a.Intake.Tallies()
	list := make([]sourceStats, len(tallies))
	for i := range tallies {
		t := &tallies[i]
		list[i] = sourceStats{
			Name: t.Source, Accepted: t.Events, Duplicates: t.Duplicates, QueuedEvents: t.QueuedEvents, QueuedBytes: t.QueuedBytes,
			MaxQueued: t.MaxQueued, Full: t.Full, Refused: t.Refused[ingest.SourceFull],
		}
	}
	return list
}

type queueStats struct {
	Dir              string  `json:"dir"`
	Events           int64   `json:"events"`
	Bytes            int64   `json:"events_bytes"` // of their bodies
	StoreBytes       int64   `json:"store_bytes"`
	JournalBytes     int64   `json:"journal_bytes"`
	FreeDisk         *int64  `json:"disk_free_bytes,omitempty"` // nil when it is not known
	MinFree          int64   `json:"min_free_bytes"`
	DiskLowIn        int64   `json:"disk_low_in_seconds,omitempty"` // if it goes on filling as in the last hours
	OldestPendingSec float64 `json:"oldest_pending_seconds"`
	Pending          int64   `json:"pending"`
	Retrying         int64   `json:"retrying"`
	Failed           int64   `json:"failed"`
	Damaged          int64   `json:"damaged"`
	UnservedBytes    int64   `json:"unserved_bytes"` // kept for disabled and orphaned endpoints alone
	Expired          int64   `json:"expired"`        // deliveries of these that became failed since the start
}

type processStats struct {
	AnonymousMemory int64 `json:"anonymous_memory_bytes"`
	Goroutines      int   `json:"goroutines"`
	OpenFiles       int64 `json:"open_files"`
	OpenFilesLimit  int64 `json:"open_files_limit"`
}

// totals are since the start: events, and requests that were refused.
type totals struct {
	Accepted     int64 `json:"accepted"`
	Duplicates   int64 `json:"duplicates"`
	Delivered    int64 `json:"delivered"` // ever
	Attempts     int64 `json:"attempts"`
	Commits      int64 `json:"commits"`
	Invalid      int64 `json:"requests_invalid"`
	Unauthorized int64 `json:"requests_unauthorized"`
	Forbidden    int64 `json:"requests_forbidden"`
	Limited      int64 `json:"requests_limited"`
	SourceFull   int64 `json:"requests_source_full"`
	Unavailable  int64 `json:"requests_unavailable"`
}

// chosenStats is the form of /stats of which somebody wants less: of thousands of endpoints the sums, or one.
type chosenStats struct {
	stats
	States    map[string]int    `json:"states,omitempty"`    // how many endpoints are in each
	Endpoints []delivery.Status `json:"endpoints,omitempty"` // in place of all
}

func (a *Admin) stats(ctx *fasthttp.RequestCtx) {
	q := readQuery(ctx)
	summary, name := q.yesNo("summary"), q.text("endpoint")
	s := a.readStats()
	if !summary && name == "" {
		if !q.refuse(ctx) {
			answer.Value(ctx, 200, s)
		}
		return
	}
	chosen := chosenStats{stats: s}
	if summary {
		chosen.States = map[string]int{}
		for i := range s.Endpoints {
			chosen.States[s.Endpoints[i].State]++
		}
	}
	if name != "" {
		if one := status(s.Endpoints, name); one != nil {
			chosen.Endpoints = []delivery.Status{*one}
		} else {
			q.wrong("endpoint: there is none of this name, and nothing is left of one")
		}
	}
	if !q.refuse(ctx) {
		answer.Value(ctx, 200, chosen)
	}
}

func (a *Admin) readStats() stats {
	q, endpoints, counts := a.Queue.Stats(), a.Dispatcher.Statuses(), a.Intake.Counts()
	s := stats{
		Version: a.Version, Started: rfc3339.At(a.Started), UptimeSeconds: int64(time.Since(a.Started).Seconds()),
		Health: a.judge(endpoints, q),
		Queue: queueStats{
			Dir: a.Dir, Events: q.Events, Bytes: q.Bytes, StoreBytes: q.StoreBytes, JournalBytes: q.JournalBytes,
			MinFree: q.MinFree, Damaged: q.Damaged,
			UnservedBytes: q.Unserved, Expired: q.Expired,
		},
		Totals: totals{
			Accepted: counts.Accepted.Load(), Duplicates: counts.Duplicates.Load(), Commits: q.Commits,
			Invalid: counts.Invalid.Load(), Unauthorized: counts.Unauthorized.Load(),
			Forbidden: counts.Forbidden.Load(), Limited: counts.Limited.Load(), SourceFull: counts.SourceFull.Load(), Unavailable: counts.Unavailable.Load(),
		},
		Sources: a.sources(), Endpoints: endpoints,
	}
	if q.FreeDisk >= 0 {
		s.Queue.FreeDisk = &q.FreeDisk
	}
	p := readProcess()
	s.Process = processStats{AnonymousMemory: p.anonymous, Goroutines: runtime.NumGoroutine(), OpenFiles: p.openFiles, OpenFilesLimit: p.filesLimit}
	if in, known := a.UntilLow(); known {
		s.Queue.DiskLowIn = int64(in.Seconds())
	}
	if ahead, n := delivery.ClockSkew(endpoints, time.Now()); n > 0 {
		s.ClockSkew = &ahead
	}
	for i := range endpoints {
		ep := &endpoints[i]
		s.Queue.Pending += ep.Pending
		s.Queue.Retrying += ep.Retrying
		s.Queue.Failed += ep.Failed
		s.Queue.OldestPendingSec = max(s.Queue.OldestPendingSec, ep.LagSeconds)
		s.Totals.Delivered += ep.Delivered
		s.Totals.Attempts += ep.Attempts
	}
	if a.Certificate != nil {
		ends, _ := a.Certificate()
		s.Certificate = &certificate{Expires: rfc3339.At(ends), DaysLeft: int(math.Floor(time.Until(ends).Hours() / 24))}
	}
	return s
}
