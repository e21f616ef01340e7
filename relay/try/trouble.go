package try

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// trouble is what a receiver does on purpose, so that an endpoint that is unwell can be rehearsed.
type trouble struct {
	fail   float64 // the share of events that are answered with status
	status int
	delay  time.Duration // before each answer
	ctx    context.Context
	chance func() float64
}

// maxDelay is beyond any timeout that a relay can be configured with by default.
const maxDelay = 10 * time.Minute

// newTrouble reads the flags; what is empty or zero was not given.
func newTrouble(ctx context.Context, fail string, status int, delay time.Duration) (trouble, error) {
	t := trouble{status: status, delay: delay, ctx: ctx, chance: rand.Float64}
	switch {
	case status != 0 && (status < 200 || status > 599):
		return t, fmt.Errorf("-status %d is not between 200 and 599", status)
	case delay < 0 || delay > maxDelay:
		return t, fmt.Errorf("-delay %s is not between 0s and %s", delay, maxDelay)
	case status == 0:
		t.status = fasthttp.StatusInternalServerError
	case fail == "":
		t.fail = 1
	}
	if fail != "" {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(fail, "%"), 64)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return t, fmt.Errorf("-fail %q is not a share as in 30%%", fail)
		}
		t.fail = percent / 100
	}
	return t, nil
}

// String tells what is rehearsed, "" when nothing is.
func (t *trouble) String() string {
	var parts []string
	if t.fail > 0 {
		parts = append(parts, fmt.Sprintf("%g%% of events are answered %d", t.fail*100, t.status))
	}
	if t.delay > 0 {
		parts = append(parts, fmt.Sprintf("each answer takes %s", t.delay))
	}
	return strings.Join(parts, ", ")
}

// decide says what becomes of one event: the status to answer with, 0 for what is right.
func (t *trouble) decide() int {
	if t.fail > 0 && t.chance() < t.fail {
		return t.status
	}
	return 0
}

// wait is the delay, cut short when the command ends.
func (t *trouble) wait() {
	if t.delay == 0 {
		return
	}
	timer := time.NewTimer(t.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}
