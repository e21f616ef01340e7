package simulate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// file is the configuration file, and what was in it when. The operator edits it.
type file struct {
	dedup, retention, failedRetention time.Duration

	editing chan struct{} // has room for who edits it and has the relay follow

	mu        sync.Mutex
	endpoints []*endpoint
	origins   []*origin
	versions  []version
	editions  int
}

// version is what the file said from some time on. It was followed from applied on at the latest.
type version struct {
	written, applied time.Time
	endpoints        []endpoint
	origins          []origin
}

// endpoint is one as the file has it.
type endpoint struct {
	name        string
	host        *host
	events      []string
	whose       whose
	edition     int // of whose: each attempt says by which it was made
	enabled     bool
	secret      string
	retry       []time.Duration
	jitter      time.Duration
	timeout     time.Duration
	maxAge      time.Duration
	concurrency int
}

const (
	adminToken = "example-token-of-the-operator"
	adminAuth  = "Authorization: Bearer " + adminToken
)

// origin is a source as the file has it. Its credential is a token or, when it signs, a secret.
type origin struct {
	name, path        string
	signs             bool
	current, previous string // previous is empty but while the credential is rotated
}

// header proves that a body comes from whoever knows a credential.
func (o *origin) header(credential, body string) string {
	if o.signs {
		return "X-RealtorBot-Signature: " + signature(credential, body)
	}
	return "Authorization: Bearer " + credential
}

// signature is what Realtor Bot's documentation says.
func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// credentials are those that a source may be known by now: as the file is followed, or may be followed.
func (f *file) credentials(source int) (always, ever []string) {
	for i, v := range f.between(time.Now(), time.Now()) {
		o := v.origins[source]
		list := []string{o.current}
		if o.previous != "" {
			list = append(list, o.previous)
		}
		if i == 0 {
			always = slices.Clone(list)
		}
		always = slices.DeleteFunc(always, func(c string) bool { return !slices.Contains(list, c) })
		ever = append(ever, list...)
	}
	return always, ever
}

// takes reports whether the endpoint subscribes to a type.
func (e *endpoint) takes(typ string) bool {
	return slices.ContainsFunc(e.events, func(s string) bool {
		group, all := strings.CutSuffix(s, "*")
		return s == typ || all && strings.HasPrefix(typ, group)
	})
}

// ask has an endpoint ask for other events. It is called while the file is edited.
func (f *file) ask(e *endpoint, o whose) {
	f.editions++
	e.whose, e.edition = o, f.editions
}

// edition is whose events an endpoint asked for in one edition of that.
func (f *file) edition(name string, n int) (o whose, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range slices.Backward(f.versions) {
		for _, e := range v.endpoints {
			if e.name == name && e.edition == n {
				return e.whose, true
			}
		}
	}
	return o, false
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
	for _, o := range f.origins {
		v.origins = append(v.origins, *o)
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
	for _, o := range f.origins {
		credential := "token"
		if o.signs {
			credential = "secret"
		}
		fmt.Fprintf(&b, "[[source]]\nname = %q\npath = %q\n%s = %q\nprevious_%s = %q\n", o.name, o.path, credential, o.current, credential, o.previous)
	}
	for _, e := range f.endpoints {
		fmt.Fprintf(&b, "[[endpoint]]\nname = %q\nurl = \"http://%s/hooks/%s\"\nevents = [%s]\nsecret = %q\nenabled = %v\n", e.name, e.host.name, e.name, quoted(e.events), e.secret, e.enabled)
		fmt.Fprintf(&b, "headers = { X-Edition = \"%d\" }\n", e.edition)
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
