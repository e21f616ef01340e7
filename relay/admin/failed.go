package admin

import (
	"slices"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/rfc3339"
)

// failed is a page of an endpoint's failed deliveries, the newest event first.
type failed struct {
	Endpoint   string       `json:"endpoint"`
	Failed     int64        `json:"failed"` // all there are, whatever the filters
	Deliveries []failedLine `json:"deliveries"`
	Next       string       `json:"next,omitempty"` // the "after" of the next page; missing when there is none
}

type failedLine struct {
	ID       string       `json:"id"`   // empty when the event can't be read any more
	Type     string       `json:"type"` // likewise
	Accepted rfc3339.Time `json:"accepted_at,omitzero"`
	FailedAt rfc3339.Time `json:"failed_at"`
	Attempts int          `json:"attempts"`
	Status   int          `json:"status,omitempty"`
	Class    string       `json:"class"`
	Bin      string       `json:"bin"`
	Reason   string       `json:"reason"`
}

// The bins of failed deliveries: who has to do something about them.
const (
	binRefused   = "refused"   // the endpoint answered, and not with success
	binUnreached = "unreached" // no whole answer came
	binExpired   = "expired"   // held for max_age without a last attempt
	binLost      = "unreadable"
	binUnmatched = "unmatched" // not the endpoint's own, as it is configured
)

// The classes of failed deliveries that no attempt has.
const (
	classExpired    = "expired"
	classUnreadable = "unreadable"
)

func binOf(class string) string {
	switch class {
	case string(client.ClassStatus):
		return binRefused
	case classExpired:
		return binExpired
	case classUnreadable:
		return binLost
	case delivery.ClassUnmatched:
		return binUnmatched
	}
	return binUnreached
}

// failedClasses are the classes that a failed delivery can have.
func failedClasses() []string {
	list := []string{classExpired, classUnreadable, delivery.ClassUnmatched}
	for _, c := range client.Classes() {
		list = append(list, string(c))
	}
	return list
}

// classesOf lists the classes of a bin, without one all that are given.
func classesOf(bin string, classes []string) []string {
	if bin == "" {
		return classes
	}
	if classes == nil {
		classes = failedClasses()
	}
	in := slices.DeleteFunc(slices.Clone(classes), func(class string) bool { return binOf(class) != bin })
	if len(in) == 0 {
		return []string{""} // no failure has it
	}
	return in
}

var bins = []string{binRefused, binUnreached, binExpired, binLost, binUnmatched}

// failedFilter reads which failed deliveries a request is about.
func failedFilter(q *query) queue.ReplaySpec {
	classes := q.list("class")
	for _, class := range classes {
		if known := failedClasses(); !slices.Contains(known, class) {
			q.wrong("there is no class %q; there are: %s", class, listed(known))
		}
	}
	return queue.ReplaySpec{
		Failed: true, Types: q.types(), Classes: classesOf(q.oneOf("bin", bins...), classes),
		Since: q.moment("since"), Until: q.moment("until"),
	}
}

func (a *Admin) listFailed(ctx *fasthttp.RequestCtx, t target) {
	q := readQuery(ctx)
	filter := failedFilter(q)
	wanted := queue.Query{
		State: queue.Failed, Lane: t.queueLane, Types: filter.Types, Classes: filter.Classes, FailedSince: filter.Since, FailedUntil: filter.Until,
		Limit: q.limit(), Below: q.after(),
	}
	if q.refuse(ctx) {
		return
	}
	found, err := a.Queue.Search(wanted)
	if err != nil {
		a.unread(ctx, err, "the failed deliveries could not be read")
		return
	}
	page := failed{Endpoint: t.name, Failed: t.queueLane.Stats().Failed, Deliveries: []failedLine{}, Next: next(found.Next)}
	for i := range found.Events {
		if f := found.Events[i].Failure; f != nil {
			page.Deliveries = append(page.Deliveries, failedLineOf(&found.Events[i], f))
		}
	}
	answer.Value(ctx, 200, page)
}

func failedLineOf(ev *queue.FoundEvent, f *queue.Failure) failedLine {
	return failedLine{
		ID: ev.ID, Type: ev.Type, FailedAt: rfc3339.At(f.At), Accepted: rfc3339.Milli(ev.At), Attempts: f.Attempts, Status: f.Status, Class: f.Class, Bin: binOf(f.Class), Reason: f.Reason,
	}
}

// discardFailed deletes failed deliveries for good.
func (a *Admin) discardFailed(ctx *fasthttp.RequestCtx, t target) {
	q := readQuery(ctx)
	filter := failedFilter(q)
	if q.refuse(ctx) {
		return
	}
	count, err := t.queueLane.DiscardFailed(filter)
	a.Log.Warn().Str("endpoint", t.name).Int64("deliveries", count).Strs("type", filter.Types).Strs("class", filter.Classes).
		Msg("the operator discarded failed deliveries of this endpoint")
	if err != nil {
		a.unsaved(ctx, err, t.name)
		return
	}
	answer.Value(ctx, 200, map[string]any{"endpoint": t.name, "status": "discarded", "deliveries": count})
}
