package admin

import (
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/rfc3339"
)

// testResult is what an endpoint answered to the test event.
type testResult struct {
	Endpoint  string `json:"endpoint"`
	ID        string `json:"id"`
	Delivered bool   `json:"delivered"`
	receiverAnswer
	Conforms *bool   `json:"conforms,omitempty"` // all checks passed
	Checks   []check `json:"checks,omitempty"`
}

type receiverAnswer struct {
	Began      rfc3339.Time `json:"began_at"`
	DurationMS float64      `json:"duration_ms"`
	Timing     timing       `json:"timing_ms"`
	Status     int          `json:"status,omitempty"`
	Class      string       `json:"class,omitempty"`
	Error      string       `json:"error,omitempty"`
	Excerpt    string       `json:"excerpt,omitempty"`
}

type check struct {
	delivery.Check
	Answer *receiverAnswer `json:"answer,omitempty"`
}

// test sends the documented test event now and once, past the queue; with conformance=1 it also judges the receiver. The
// answer is 200 whatever the endpoint said: what it said is in it.
func (a *Admin) test(ctx *fasthttp.RequestCtx, t target) {
	q := readQuery(ctx)
	conformance := q.yesNo("conformance")
	if q.refuse(ctx) {
		return
	}
	now := time.Now()
	id := "evt_test_" + ulid.Make().String()
	body := `{"id":` + strconv.Quote(id) + `,"type":"test","timestamp":"` + now.UTC().Format(rfc3339.Layout) +
		`","data":{"message":"This is a test webhook"}}`
	result, found, err := a.Dispatcher.SendTest(ctx, t.name, client.Request{ID: []byte(id), Type: []byte("test"), Body: []byte(body)}, conformance)
	switch {
	case !found:
		notConfigured(ctx, t.name)
		return
	case err != nil:
		a.Log.Error().Err(err).Str("endpoint", t.name).Msg("the test event could not be sent")
		answer.Error(ctx, 500, "internal", "the test event could not be sent; the log says why")
		return
	}
	a.Log.Info().Str("endpoint", t.name).Str("event", id).Int("status", result.Outcome.Status).Str("class", string(result.Outcome.Class)).
		Int64("duration_ms", result.Outcome.Took.Milliseconds()).Msg("the operator sent a test event")
	told := testResult{Endpoint: t.name, ID: id, Delivered: result.Delivered, receiverAnswer: testAnswer(&result.Outcome)}
	if conformance {
		conforms := true
		for _, c := range result.Checks {
			conforms = conforms && c.Result == delivery.Passed
			one := check{Check: c}
			if c.Outcome != nil {
				answered := testAnswer(c.Outcome)
				one.Answer = &answered
			}
			told.Checks = append(told.Checks, one)
		}
		told.Conforms = &conforms
	}
	answer.Value(ctx, 200, told)
}

func testAnswer(o *client.Outcome) receiverAnswer {
	return receiverAnswer{
		Began: rfc3339.At(o.At), DurationMS: millis(o.Took),
		Timing: timing{millis(o.Timing.DNS), millis(o.Timing.Connect), millis(o.Timing.TLS), millis(o.Timing.FirstByte)},
		Status: o.Status, Class: string(o.Class), Error: o.Err, Excerpt: string(o.Excerpt),
	}
}
