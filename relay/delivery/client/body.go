package client

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"

	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/match"
)

// slackLimit is how many bytes a text may have: Discord refuses more than 2,000 characters; the others take more.
const slackLimit = 1900

// asJavaScript returns r with the numbers of its body as JavaScript writes them; r itself when they are so already. What it
// returns is signed and sent.
func asJavaScript(r *Request) *Request {
	if canonical.KeptNumber(r.Body) == nil {
		return r
	}
	sent := *r
	sent.Body = canonical.AppendJavaScript(make([]byte, 0, len(r.Body)), r.Body)
	return &sent
}

// asSlack returns r with a body that the incoming webhooks of Slack and Mattermost take, and those of Discord under /slack:
// {"text":…}. What it returns is signed and sent.
func asSlack(r *Request) *Request {
	sent := *r
	sent.Body = match.AppendText([]byte(`{"text":`), slackText(r))
	sent.Body = append(sent.Body, '}')
	return &sent
}

// slackText writes an event for people: its type and its data.message, which the relay's own alerts and the test event have;
// without a message, its id and its data as they are. Text that the relay did not write stands in a block of code, where chats
// see no markup.
func slackText(r *Request) string {
	var event struct {
		Data json.RawMessage
	}
	var data struct {
		Message string
	}
	_ = json.Unmarshal(r.Body, &event) // ingest has seen that it is an event
	_ = json.Unmarshal(event.Data, &data)
	text := "*" + inert(string(r.Type)) + "* "
	switch {
	case data.Message != "" && isOwnEvent(r.Type):
		return cut(text + inert(data.Message))
	case data.Message != "":
		return cut(text+"\n```\n"+inert(data.Message)) + "\n```"
	}
	return cut(text+"`"+inert(string(r.ID))+"`\n```\n"+inert(string(event.Data))) + "\n```"
}

// isOwnEvent reports whether the relay wrote the event. No source can use these types.
func isOwnEvent(eventType []byte) bool { return bytes.HasPrefix(eventType, []byte(config.AlertPrefix)) }

// zeroWidthSpace stands where a chat must not see a mention or a link. People don't see it.
const zeroWidthSpace = "\u200b"

// mentionsAll matches the words that notify everybody in one chat or another.
var mentionsAll = regexp.MustCompile(`(?i)^(all|channel|everyone|group|here)`)

// inert rewrites text so that it notifies nobody, links nowhere and ends no block of code: it escapes Slack's own marks,
// replaces backticks, and breaks links and every @ except those of mail addresses, which people copy.
func inert(text string) string {
	text = slackEscapes.Replace(text)
	var b strings.Builder
	for i, c := range text {
		b.WriteRune(c)
		if c == '@' && (i == 0 || !isInAddress(text[i-1]) || mentionsAll.MatchString(text[i+1:])) {
			b.WriteString(zeroWidthSpace)
		}
	}
	return linkStarts.ReplaceAllString(b.String(), "${1}"+zeroWidthSpace+"${2}")
}

// isInAddress reports whether c may stand before the @ of a mail address.
func isInAddress(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '+' || c == '-'
}

// slackEscapes replaces the three characters that Slack's own marks are made of, and the one that ends code.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "'")

// linkStarts matches the beginning of whatever a chat turns into a link.
var linkStarts = regexp.MustCompile(`(?i)(\b(?:[a-z][a-z0-9+.-]*:|www|mailto|tel)|\])(//|[.:(])`)

func cut(text string) string {
	if len(text) <= slackLimit {
		return text
	}
	end := slackLimit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
