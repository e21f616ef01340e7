package delivery

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

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
// or else its id and its data as they are.
func slackText(p *Parcel) string {
	var event struct {
		Data json.RawMessage
	}
	var data struct {
		Message string
	}
	_ = json.Unmarshal(p.Body, &event) // ingest has seen that it is an event
	_ = json.Unmarshal(event.Data, &data)
	text := "*" + string(p.Type) + "* "
	if data.Message != "" {
		return clipped(text + slackEscapes.Replace(data.Message))
	}
	text += string(p.ID) + "\n```"
	return clipped(text+slackEscapes.Replace(string(event.Data))) + "```"
}

// slackEscapes are the three characters that Slack's own marks are made of; between backticks a backtick would end them.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "```", "'''")

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
