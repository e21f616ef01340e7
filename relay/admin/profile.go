package admin

import (
	"bytes"
	"io"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

const (
	// profileTime is how long the processor is looked at when nothing else is asked for, and profileMost the longest.
	profileTime = 10
	profileMost = 30
	// stackBytes is how much of the stacks of all goroutines is told as text: nothing goes on while they are written.
	stackBytes = 4 << 20

	profileCPU        = "profile"
	profileGoroutines = "goroutine"
)

// profiles are those that there are: the names and forms of Go's net/http/pprof. Those of locks are not among them, since the
// runtime gathers none unless every lock is slowed down for it; nor is the command line, which is nobody's profile.
var profiles = []string{"allocs", profileGoroutines, "heap", profileCPU, "threadcreate"}

// canBeProfiled answers, as for a path that does not exist, where profiles are not told: they need the token, and without one
// whoever can connect could have the relay work for them. Who may open the control socket may do everything.
func (a *Admin) canBeProfiled(ctx *fasthttp.RequestCtx) bool {
	if a.Token.IsZero() && !isTrusted(ctx) {
		nothingHere(ctx)
		return false
	}
	return true
}

// listProfiles tells which profiles there are.
func (a *Admin) listProfiles(ctx *fasthttp.RequestCtx) {
	if a.canBeProfiled(ctx) {
		answer.Value(ctx, 200, map[string][]string{"profiles": profiles})
	}
}

// profile answers with one profile, whole: it needs neither the queue nor a place among the answers that go on, so that it is
// there when those are what is wrong.
func (a *Admin) profile(ctx *fasthttp.RequestCtx, t target) {
	if !a.canBeProfiled(ctx) {
		return
	}
	q := readQuery(ctx)
	seconds, debug := q.number("seconds", 1, profileMost, profileTime), q.number("debug", 0, 2, 0)
	switch {
	case !slices.Contains(profiles, t.id):
		answer.Error(ctx, 404, "no_profile", "there is no profile of this name; there are: "+listed(profiles))
		return
	case t.id == profileCPU && q.args.Has("debug"):
		q.wrong("debug is not for the profile of the processor")
	case t.id != profileCPU && q.args.Has("seconds"):
		q.wrong("seconds is for the profile of the processor: %s is as it is now", t.id)
	}
	if q.refuse(ctx) {
		return
	}
	kind := "application/octet-stream"
	if debug > 0 {
		kind = "text/plain; charset=utf-8"
	}
	out := &bytes.Buffer{}
	switch {
	case ctx.IsHead():
	case t.id == profileCPU:
		// One at a time: the runtime refuses a second one.
		if pprof.StartCPUProfile(out) != nil {
			answer.Error(ctx, 409, "profile_running", "the processor is being profiled: one profile of it at a time")
			return
		}
		profileUntil(ctx.Done(), time.Duration(seconds)*time.Second)
	case t.id == profileGoroutines && debug == 2:
		writeStacks(out)
	default:
		// It is one of profiles, and a bytes.Buffer takes everything.
		_ = pprof.Lookup(t.id).WriteTo(out, debug)
	}
	ctx.Response.Header.SetContentType(kind)
	ctx.Response.SetBodyRaw(out.Bytes())
}

// profileUntil lets the profile that was begun go on for so long, or until the relay stops, and ends it: what it has by then is
// a profile.
func profileUntil(stopped <-chan struct{}, wait time.Duration) {
	defer pprof.StopCPUProfile()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stopped:
	}
}

// writeStacks writes what each goroutine does, as much of it as has room.
func writeStacks(out io.Writer) {
	buffer := make([]byte, stackBytes)
	n := runtime.Stack(buffer, true)
	_, _ = out.Write(buffer[:n])
	if n == len(buffer) {
		_, _ = io.WriteString(out, "\n\n… more than "+strconv.Itoa(stackBytes>>20)+" MiB: debug=1 has all of them, those that do the same together\n")
	}
}

// isProfile reports whether a route's path is one of profiles'.
func isProfile(path string) bool { return strings.HasPrefix(path, "/debug/pprof") }
