package admin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

// query reads the values of parameters that the route has. It keeps the first mistake: a filter that is misspelled must not
// look as if it had found everything.
type query struct {
	args *fasthttp.Args
	err  string
}

func readQuery(ctx *fasthttp.RequestCtx) *query { return &query{args: ctx.QueryArgs()} }

func (q *query) wrong(format string, args ...any) {
	if q.err == "" {
		q.err = fmt.Sprintf(format, args...)
	}
}

func (q *query) text(name string) string { return string(q.args.Peek(name)) }

// yesNo reads 1 or 0, no when it is not given.
func (q *query) yesNo(name string) bool {
	if !q.args.Has(name) {
		return false
	}
	text := q.text(name)
	if text != "1" && text != "0" {
		q.wrong("%s must be 1 or 0", name)
	}
	return text == "1"
}

// list reads values with commas between them.
func (q *query) list(name string) []string {
	text := q.text(name)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// types reads event types, exact, "group.*" or "*".
func (q *query) types() []string {
	list := q.list("type")
	if reason := checkTypes(list); reason != "" {
		q.wrong("%s", reason)
	}
	return list
}

// checkTypes says what is wrong with patterns of event types, or "".
func checkTypes(patterns []string) string {
	for _, p := range patterns {
		if !config.IsTypePattern(p) {
			return fmt.Sprintf("type %q must be a type, \"group.*\" or \"*\"", p)
		}
	}
	return ""
}

// match reads a member with what it is; nil when it is not given.
func (q *query) match() match.Rule {
	text := q.text("match")
	if text == "" {
		return nil
	}
	c, wrong := config.ParseCondition(text)
	if wrong != "" {
		q.wrong("match %s", wrong)
	}
	return match.Rule{c}
}

// oneOf reads a word of a closed set; empty when it is not given.
func (q *query) oneOf(name string, words ...string) string {
	text := q.text(name)
	if text != "" && !slices.Contains(words, text) {
		q.wrong("%s must be one of %s", name, strings.Join(words, ", "))
	}
	return text
}

// moment reads a time; zero when it is not given.
func (q *query) moment(name string) time.Time {
	at, reason := parseMoment(q.text(name), time.Now())
	if reason != "" {
		q.wrong("%s %s", name, reason)
	}
	return at
}

// parseMoment takes a time of day as RFC 3339 has it, or how long ago it was. It returns what is wrong, or "".
func parseMoment(text string, now time.Time) (at time.Time, wrong string) {
	if text == "" {
		return at, ""
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), ""
	}
	// In a query that nobody escaped, the plus of an offset has become a space.
	at, err := time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
	if err != nil {
		return at, `must be a time such as "2026-01-31T03:00:00Z", or how long ago, such as "1h30m"`
	}
	return at, ""
}

// limit is how much goes on a page.
func (q *query) limit() int { return q.number("limit", 1, maxPageLength, pageLength) }

// number reads a whole number from least to most; usual when it is not given.
func (q *query) number(name string, least, most, usual int) int {
	text := q.text(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		q.wrong("%s must be %d to %d", name, least, most)
	}
	return n
}

const (
	pageLength    = 100
	maxPageLength = 1000
)

// after is where the page before ended: its "next".
func (q *query) after() uint64 {
	text := q.text("after")
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		q.wrong(`after must be the "next" of the page before`)
	}
	return n
}

// wait reads how long an answer may take at most; zero when it is not given.
func (q *query) wait(name string, most time.Duration) time.Duration {
	text := q.text(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		q.wrong(`%s must be how long to wait, such as "5s", at most %s`, name, most)
	}
	return d
}

// refuse answers when something is wrong with the values.
func (q *query) refuse(ctx *fasthttp.RequestCtx) bool {
	if q.err != "" {
		answer.Error(ctx, 400, "invalid_query", q.err)
		return true
	}
	return false
}

// next is the cursor of the page behind one that ended there.
func next(at uint64) string {
	if at == 0 {
		return ""
	}
	return strconv.FormatUint(at, 10)
}
