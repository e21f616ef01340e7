package delivery

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/sign"
)

// pupil is a receiver that may lack what a good one does.
type pupil struct {
	secret                          string
	takesWrong, takesNone, onceOnly bool
	refusing                        int // answers this to everything
	wrongAnswer                     int // to what is not rightly signed; 401 when 0

	mu   sync.Mutex
	seen map[string]int
}

// ServeHTTP answers one event.
func (p *pupil) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	header, id := r.Header.Get("X-RealtorBot-Signature"), r.Header.Get("webhook-id")
	isRight := sign.VerifyRealtorBot(header, body, sign.NewSecret(p.secret)) == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.refusing != 0:
		w.WriteHeader(p.refusing)
	case header == "" && !p.takesNone, header != "" && !isRight && !p.takesWrong:
		w.WriteHeader(max(p.wrongAnswer, 401))
	case p.onceOnly && p.seen[id] > 0:
		w.WriteHeader(409)
	default:
		p.seen[id]++
		_, _ = io.WriteString(w, "noted")
	}
}

func testRequest() client.Request {
	return client.Request{ID: []byte("evt_1"), Type: []byte("lead.created"), Body: []byte(`{"id":"evt_1"}`)}
}

func verdicts(checks []Check) (text string) {
	for _, c := range checks {
		text += fmt.Sprintf("%s=%s ", c.Name, c.Result)
	}
	return strings.TrimSpace(text)
}

const (
	allPass = "accepts_signed=pass answers_fast=pass accepts_repeat=pass refuses_wrong_signature=pass refuses_unsigned=pass"
	noneRun = "accepts_signed=fail answers_fast=skipped accepts_repeat=skipped refuses_wrong_signature=skipped refuses_unsigned=skipped"
)

func TestConformanceFindsWhatAReceiverLacks(t *testing.T) {
	for name, tt := range map[string]struct {
		pupil *pupil
		want  string
		says  string
	}{
		"a good one":          {&pupil{}, allPass, ""},
		"takes what is wrong": {&pupil{takesWrong: true}, strings.Replace(allPass, "wrong_signature=pass", "wrong_signature=fail", 1), "verify the signature over the raw body"},
		"takes what has none": {&pupil{takesNone: true}, strings.Replace(allPass, "unsigned=pass", "unsigned=fail", 1), "without any signature"},
		"breaks on the wrong": {&pupil{wrongAnswer: 500}, "accepts_signed=pass answers_fast=pass accepts_repeat=pass refuses_wrong_signature=fail refuses_unsigned=fail", "with 401: answered 500"},
		"refuses a repeat":    {&pupil{onceOnly: true}, strings.Replace(allPass, "repeat=pass", "repeat=fail", 1), "that you have already"},
		"refuses everything":  {&pupil{refusing: 401}, noneRun, "compare the secrets"},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := tt.pupil
			receiver.secret, receiver.seen = "example-secret", map[string]int{}
			server := httptest.NewServer(receiver)
			defer server.Close()
			ep := subscriber("crm", server.URL)
			ep.Secret, ep.Signatures = sign.NewSecret(receiver.secret), []string{sign.SchemeRealtorBot}
			d := openHarness(t, ep)
			result, found, err := d.dispatcher.SendTest(context.Background(), "crm", testRequest(), true)
			if err != nil || !found {
				t.Fatalf("found %v, %v", found, err)
			}
			if got := verdicts(result.Checks); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			said := ""
			for _, c := range result.Checks {
				said += c.Note + "\n"
			}
			if !strings.Contains(said, tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, said)
			}
		})
	}
}

func TestATestEventTouchesNoLane(t *testing.T) {
	receiver := &pupil{refusing: 500}
	server := httptest.NewServer(receiver)
	defer server.Close()
	d := openHarness(t, subscriber("crm", server.URL))
	if err := d.dispatcher.Lane("crm").Pause("by the operator"); err != nil {
		t.Fatal(err)
	}
	d.accept("test", "evt_waits")
	for range 2 * downAfter {
		result, _, err := d.dispatcher.SendTest(context.Background(), "crm", testRequest(), false)
		if err != nil || result.Delivered || result.Outcome.Status != 500 || len(result.Checks) > 0 {
			t.Fatalf("%+v %v", result, err)
		}
	}
	if s := d.status("crm"); s.State != StatePaused || s.Attempts != 0 || s.Pending != 1 || s.LastError != "" {
		t.Errorf("the lane was touched: %+v", s)
	}
	if _, found, err := d.dispatcher.SendTest(context.Background(), "nobody", testRequest(), false); found || err != nil {
		t.Errorf("nobody was found: %v", err)
	}
}

func TestConformanceIsJudgedByWhatCame(t *testing.T) {
	fine := func(took time.Duration) *client.Outcome { return &client.Outcome{Status: 200, Took: took} }
	refusal := &client.Outcome{Status: 401, Class: client.ClassStatus, Err: "answered 401 Unauthorized"}
	for name, tt := range map[string]struct {
		r    conformance
		want string
	}{
		"just fast enough":  {conformance{10 * time.Second, true, false, fine(5 * time.Second), fine(time.Second), refusal, refusal}, allPass},
		"a slow repeat":     {conformance{10 * time.Second, true, false, fine(time.Second), fine(6 * time.Second), refusal, refusal}, strings.Replace(allPass, "fast=pass", "fast=fail", 1)},
		"a broken line":     {conformance{10 * time.Second, true, false, fine(0), fine(0), &client.Outcome{Class: client.ClassReset, Err: "closed"}, refusal}, strings.Replace(allPass, "signature=pass", "signature=fail", 1)},
		"without a secret":  {conformance{10 * time.Second, false, false, fine(0), fine(0), nil, nil}, "accepts_signed=pass answers_fast=pass accepts_repeat=pass refuses_wrong_signature=skipped refuses_unsigned=skipped"},
		"a chat":            {conformance{10 * time.Second, true, true, fine(0), fine(0), nil, nil}, "accepts_signed=pass answers_fast=pass accepts_repeat=pass refuses_wrong_signature=skipped refuses_unsigned=skipped"},
		"nothing came back": {conformance{10 * time.Second, true, false, &client.Outcome{Class: client.ClassTimeout, Err: "timed out"}, nil, nil, nil}, noneRun},
	} {
		if got := verdicts(tt.r.judge()); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tt.want)
		}
	}
}
