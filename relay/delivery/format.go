package delivery

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/ingest"
)

// slackLimit is the most bytes that a text has: Discord refuses more than 2,000 characters, the others bear more.
const slackLimit = 1900

// rounded replaces the body of a parcel, if JavaScript would write one of its numbers differently, by one that has them as
// JavaScript writes them. It is what is signed and sent.
func rounded(p *Parcel) *Parcel {
	if ingest.KeptNumber(p.Body) == nil {
		return p
	}
	said := *p
	said.Body = ingest.AppendJavaScript(make([]byte, 0, len(p.Body)), p.Body)
	return &said
}

// slacken replaces the body of a parcel by what the incoming webhooks of Slack, of Mattermost, and of Discord under
// /slack take: {"text":…}. It is what is signed and sent.
func slacken(p *Parcel) *Parcel {
	said := *p
	said.Body = appendText([]byte(`{"text":`), slackText(p))
	said.Body = append(said.Body, '}')
	return &said
}

// slackText is an event for people: its type, and its data.message, as the relay's own alerts and the test event have it,
// or else its id and its data as they are. What somebody else wrote stands in a block of code, where chats see no markup.
func slackText(p *Parcel) string {
	var event struct {
		Data json.RawMessage
	}
	var data struct {
		Message string
	}
	_ = json.Unmarshal(p.Body, &event) // ingest has seen that it is an event
	_ = json.Unmarshal(event.Data, &data)
	text := "*" + harmless(string(p.Type)) + "* "
	switch {
	case data.Message != "" && isOwnEvent(p.Type):
		return clipped(text + harmless(data.Message))
	case data.Message != "":
		return clipped(text+"\n```\n"+harmless(data.Message)) + "\n```"
	}
	return clipped(text+"`"+harmless(string(p.ID))+"`\n```\n"+harmless(string(event.Data))) + "\n```"
}

// isOwnEvent reports whether the relay itself speaks, which no source can do in its name.
func isOwnEvent(eventType []byte) bool { return bytes.HasPrefix(eventType, []byte(config.AlertPrefix)) }

// unseen is a space of no width: it breaks what a chat would make something of, and nobody sees it.
const unseen = "\u200b"

// callsAll are the words that call everybody in one chat or another.
var callsAll = regexp.MustCompile(`(?i)^(all|channel|everyone|group|here)`)

// harmless is text that calls nobody, leads nowhere and ends no code: Slack's own marks are escaped, backticks are gone, links
// are broken, and every @ is but those of mail addresses, which people copy.
func harmless(text string) string {
	text = slackEscapes.Replace(text)
	var b strings.Builder
	for i, c := range text {
		b.WriteRune(c)
		if c == '@' && (i == 0 || !isInAddress(text[i-1]) || callsAll.MatchString(text[i+1:])) {
			b.WriteString(unseen)
		}
	}
	return linkStarts.ReplaceAllString(b.String(), "${1}"+unseen+"${2}")
}

// isInAddress reports whether a byte may stand in front of the @ of a mail address.
func isInAddress(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '+' || c == '-'
}

// slackEscapes are the three characters that Slack's own marks are made of, and the one that code ends with.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "'")

// linkStarts finds where something begins that a chat makes a link of.
var linkStarts = regexp.MustCompile(`(?i)(\b(?:[a-z][a-z0-9+.-]*:|www|mailto|tel)|\])(//|[.:(])`)

func clipped(text string) string {
	if len(text) <= slackLimit {
		return text
	}
	end := slackLimit
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// appendText adds text as JavaScript's JSON.stringify writes it, so that the documented receiver agrees on the signature.
func appendText(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range []byte(text) {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
