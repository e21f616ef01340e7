package simulate

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// file is the configuration file, and what was in it when. The operator edits it.
type file struct {
	dedup, retention, failedRetention time.Duration

	mu        sync.Mutex
	endpoints []*endpoint
	versions  []version
}

// version is what the file said from some time on. It was followed from applied on at the latest.
type version struct {
	written, applied time.Time
	endpoints        []endpoint
}

// endpoint is one as the file has it.
type endpoint struct {
	name        string
	host        *host
	events      []string
	whose       whose
	enabled     bool
	secret      string
	retry       []time.Duration
	jitter      time.Duration
	timeout     time.Duration
	maxAge      time.Duration
	concurrency int
}

const (
	sourceToken = "example-token-of-the-platform"
	adminToken  = "example-token-of-the-operator"
)

// takes reports whether the endpoint subscribes to a type.
func (e *endpoint) takes(typ string) bool {
	return slices.ContainsFunc(e.events, func(s string) bool {
		group, all := strings.CutSuffix(s, "*")
		return s == typ || all && strings.HasPrefix(typ, group)
	})
}

// change edits the file.
func (f *file) change(edit func([]*endpoint)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(f.endpoints)
	v := version{written: time.Now()}
	for _, e := range f.endpoints {
		v.endpoints = append(v.endpoints, *e)
	}
	f.versions = append(f.versions, v)
}

// follow notes that the relay follows the file as it is.
func (f *file) follow() { f.followTo(f.count()) }

// count is how many versions there have been.
func (f *file) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.versions)
}

// followTo notes that the relay follows the file as it was after so many versions, or a later one.
func (f *file) followTo(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.versions[:n] {
		if f.versions[i].applied.IsZero() {
			f.versions[i].applied = time.Now()
		}
	}
}

// between returns what the relay may have followed at some time from one time to another.
func (f *file) between(from, to time.Time) (list []version) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, v := range f.versions {
		if v.written.After(to) || i+1 < len(f.versions) && !f.versions[i+1].applied.IsZero() && f.versions[i+1].applied.Before(from) {
			continue
		}
		list = append(list, v)
	}
	return list
}

func (f *file) text(m *machine, dir string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "[server]\nlisten = %q\n[admin]\nlisten = %q\ntoken = %q\n", m.intake, m.admin, adminToken)
	fmt.Fprintf(&b, "[queue]\ndir = %q\ndedup_window = %q\nretention = %q\nfailed_retention = %q\n", dir, f.dedup, f.retention, f.failedRetention)
	fmt.Fprintf(&b, "[[source]]\nname = \"platform\"\npath = \"/events\"\ntoken = %q\n", sourceToken)
	for _, e := range f.endpoints {
		fmt.Fprintf(&b, "[[endpoint]]\nname = %q\nurl = \"http://%s/hooks/%s\"\nevents = [%s]\nsecret = %q\nenabled = %v\n", e.name, e.host.name, e.name, quoted(e.events), e.secret, e.enabled)
		b.WriteString(e.whose.text())
		waits := make([]string, len(e.retry))
		for i, wait := range e.retry {
			waits[i] = wait.String()
		}
		fmt.Fprintf(&b, "retry = [%s]\njitter = %q\ntimeout = %q\nmax_age = %q\nconcurrency = %d\n", quoted(waits), e.jitter, e.timeout, e.maxAge, e.concurrency)
	}
	return b.String()
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}
