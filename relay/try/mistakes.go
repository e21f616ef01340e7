package try

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"realtorbot-relay/sign"
)

// tolerance is how far webhook-timestamp and the clock may be apart: what the libraries of Standard Webhooks allow.
const tolerance = 5 * time.Minute

// secrets are those that a signature may have been made with. With an empty previous one there is none.
type secrets struct{ current, previous sign.Secret }

// whyRealtorBot is empty when header is the X-RealtorBot-Signature of body under the current secret, and else the reason,
// as far as the usual mistakes tell it. It never holds the signature that was expected.
func whyRealtorBot(header string, body []byte, known secrets) string {
	secret := known.current
	err := sign.VerifyRealtorBot(header, body, secret)
	if err == nil {
		return ""
	}
	if strings.HasPrefix(header, "v1,") {
		return "this is the value of webhook-signature; X-RealtorBot-Signature is 64 lower-case hex digits"
	}
	digits, dressed := undress(header)
	if dressed != "" && sign.VerifyRealtorBot(digits, body, secret) == nil {
		return "right but for its form: " + dressed + "; X-RealtorBot-Signature is 64 lower-case hex digits and nothing else"
	}
	if err := sign.VerifyRealtorBot(digits, body, secret); errors.Is(err, sign.ErrMalformed) {
		return otherHeader(strings.TrimSpace(header)) + err.Error()
	}
	for _, key := range keysMistaken(known, true) {
		for _, text := range append([]variant{{"", body}}, bodiesMistaken(body)...) {
			if sign.VerifyRealtorBot(digits, text.bytes, sign.NewSecret(string(key.bytes))) == nil {
				return reasons(key.name, text.name)
			}
		}
	}
	return otherwise(body)
}

// otherHeader says which header a value that is no signature seems to be of, followed by "; "; empty when it can't tell.
func otherHeader(value string) string {
	switch {
	case strings.Trim(value, "0123456789") == "" && len(value) >= 10:
		return "this looks like webhook-timestamp; "
	case strings.HasPrefix(value, "evt_") || strings.HasPrefix(value, "msg_"):
		return "this looks like webhook-id; "
	case strings.HasPrefix(value, "whsec_"):
		return "this is a secret and no signature; "
	case strings.HasPrefix(value, "Bearer ") || strings.HasPrefix(value, "Basic "):
		return "this is the value of Authorization; "
	}
	return ""
}

// undress takes from a signature what others write around it, and says what that was; "" when there was nothing.
func undress(header string) (digits, dressed string) {
	var found []string
	digits = strings.Trim(header, " \t\r\n\"'")
	if digits != header {
		found = append(found, "it has spaces or quotes around it")
	}
	if _, rest, ok := strings.Cut(digits, "="); ok && len(rest) == 64 {
		found = append(found, fmt.Sprintf("it starts with %q", harmless(strings.TrimSuffix(digits, rest))))
		digits = rest
	}
	if sum, err := base64.StdEncoding.DecodeString(digits); err == nil && len(sum) == 32 {
		found = append(found, "it is base64")
		digits = hex.EncodeToString(sum)
	}
	if lower := strings.ToLower(digits); lower != digits {
		found = append(found, "it is in upper case")
		digits = lower
	}
	return digits, strings.Join(found, " and ")
}

// whyStandard is empty when the three headers are those of body under the current secret and the timestamp is within
// tolerance of now, and else the reason, as far as the usual mistakes tell it. It never holds the signature that was
// expected.
func whyStandard(header, id, timestamp string, body []byte, known secrets, now time.Time) string {
	secret := known.current
	key, keyErr := sign.ParseStandardKey(secret)
	if sign.VerifyStandard(header, id, timestamp, body, now, tolerance, key) == nil {
		return ""
	}
	if id == "" || timestamp == "" {
		return "webhook-id and webhook-timestamp are signed too, and one of them is missing"
	}
	unix, err := strconv.ParseInt(timestamp, 10, 64)
	if err == nil && unix > 1e11 {
		return "webhook-timestamp must be seconds, and this looks like milliseconds"
	}
	// At the very second of the timestamp, the signature alone decides.
	signed := time.Unix(unix, 0)
	matches := func(key, body []byte) error {
		return sign.VerifyStandard(header, id, timestamp, body, signed, 0, sign.StandardKey{Secret: sign.NewSecret(string(key))})
	}
	switch err := matches([]byte(secret.Reveal()), body); {
	case errors.Is(err, sign.ErrMalformed) && isHexSum(header):
		return "this is the value of X-RealtorBot-Signature; webhook-signature is v1, and base64"
	case errors.Is(err, sign.ErrMalformed):
		return otherHeader(header) + err.Error()
	case err == nil && keyErr == nil:
		return "the secret was used as it is written; Standard Webhooks takes what the base64 behind whsec_ decodes to"
	case err == nil:
		return keyErr.Error() + "; the signature was made with it as it is written"
	case keyErr != nil:
		return keyErr.Error()
	}
	if matches([]byte(key.Reveal()), body) == nil {
		side := "old"
		if signed.After(now) {
			side = "in the future"
		}
		return fmt.Sprintf("the signature is right, but its timestamp is %s %s and receivers tolerate %s: a replay, a long way, or a wrong clock",
			now.Sub(signed).Abs().Truncate(time.Second), side, tolerance)
	}
	for _, wrong := range keysMistaken(known, false) {
		for _, text := range append([]variant{{"", body}}, bodiesMistaken(body)...) {
			if matches(wrong.bytes, text.bytes) == nil {
				return reasons(wrong.name, text.name)
			}
		}
	}
	if signsBodyAlone(header, body, key.Secret) {
		return "the body alone was signed; Standard Webhooks signs id.timestamp.body"
	}
	return otherwise(body) + ", or with another id or timestamp"
}

// isHexSum reports whether text has the form of X-RealtorBot-Signature.
func isHexSum(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == 32
}

// signsBodyAlone reports whether one of the listed signatures is that of the body without id and timestamp.
func signsBodyAlone(header string, body []byte, key sign.Secret) bool {
	for entry := range strings.SplitSeq(header, " ") {
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(entry, "v1,"))
		if err == nil && sign.VerifyRealtorBot(hex.EncodeToString(sum), body, key) == nil {
			return true
		}
	}
	return false
}

// variant is a key or a body as a mistake would make it; an empty name is no mistake.
type variant struct {
	name  string
	bytes []byte
}

// keysMistaken is what the secret may have been taken for, the right reading first, and the previous secret. literal says
// that the right reading is the secret as it is written.
func keysMistaken(known secrets, literal bool) []variant {
	const decodedHint = "the secret was base64-decoded; here it is used as it is written"
	const previousHint = "it is signed with the previous secret: the sender has not changed yet; accept both until it has"
	written := known.current.Reveal()
	bare := strings.TrimPrefix(written, "whsec_")
	decoded, err := base64.StdEncoding.DecodeString(bare)

	var keys []variant
	if literal {
		keys = append(keys, variant{"", []byte(written)})
		if err == nil {
			keys = append(keys, variant{decodedHint, decoded})
		}
	} else {
		keys = append(keys, variant{"", decoded},
			variant{"the secret was used as it is written; its base64 must be decoded", []byte(written)})
	}
	if bare != written {
		keys = append(keys, variant{"the secret was used as it is written, but without whsec_", []byte(bare)})
	}
	if raw, err := hex.DecodeString(written); err == nil && len(raw) > 0 {
		keys = append(keys, variant{"the secret was hex-decoded; here it is used as it is written", raw})
	}
	keys = append(keys, variant{"the secret was used with a line break at its end", []byte(written + "\n")})
	if trimmed := strings.TrimSpace(written); trimmed != written {
		keys = append(keys, variant{"the secret given here has white space around it that was not used for signing", []byte(trimmed)})
	}
	if literal && !known.previous.IsZero() {
		keys = append(keys, variant{previousHint, []byte(known.previous.Reveal())})
	} else if previous, err := sign.ParseStandardKey(known.previous); err == nil {
		keys = append(keys, variant{previousHint, []byte(previous.Reveal())})
	}
	return keys
}

// bodiesMistaken is what the body given here may have been when it was signed. A body beyond 1 MiB isn't tried: each
// variant is hashed under each key, and listen does this for whoever posts to it.
func bodiesMistaken(body []byte) []variant {
	if len(body) > 1<<20 {
		return nil
	}
	trimmed := bytes.TrimRight(body, "\r\n")
	variants := []variant{
		{"the body given here ends in a line break that was not signed", trimmed},
		{"a line break at the end of the body was signed, and is missing here", append(bytes.Clone(trimmed), '\n')},
		{"the body given here starts with a byte order mark that was not signed", bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))},
		{"the body given here has CR LF line breaks where LF was signed", bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))},
		{"the body given here has LF line breaks where CR LF was signed", bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n"))},
	}
	if !json.Valid(body) {
		return variants
	}
	const rewritten = "the body was parsed and written again, and what was signed "
	const received, sent = ": verify the bytes that were received", ": sign and verify the bytes that are sent"
	var compact, indented bytes.Buffer
	_ = json.Compact(&compact, body) // can't fail: the body is valid
	_ = json.Indent(&indented, compact.Bytes(), "", "  ")
	plain := compact.Bytes()
	return append(variants,
		variant{rewritten + "is its compact form" + received, plain},
		variant{rewritten + "is compact and without needless escapes (as JavaScript writes it)" + received, unescape(plain)},
		variant{rewritten + "is its indented form" + sent, indented.Bytes()},
		variant{rewritten + "has a space after each comma and colon (as Python writes it)" + sent, spaced(plain)},
		variant{rewritten + "has these spaces and is ASCII alone (as Python writes it)" + sent, spaced(escape(plain, false))},
		variant{rewritten + "is ASCII alone with \\/ for / (as PHP writes it)" + sent, escape(plain, true)},
		variant{rewritten + "has its names in order (as Go writes a map)" + sent, ordered(plain)},
	)
}

// escape writes each string of compact, valid JSON in ASCII, and / as \/ when slashes is set.
func escape(compact []byte, slashes bool) []byte {
	var out []byte
	for _, r := range string(unescape(compact)) {
		switch {
		case r == '/' && slashes:
			out = append(out, `\/`...)
		case r < utf8.RuneSelf:
			out = append(out, string(r)...)
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// ordered writes valid JSON with the names of each object in order.
func ordered(compact []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(compact))
	decoder.UseNumber()
	var value any
	_ = decoder.Decode(&value) // can't fail: it is valid
	out, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return out
}

// unescape writes each string of compact, valid JSON with no more escapes than needed.
func unescape(compact []byte) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for i := 0; i < len(compact); {
		if compact[i] != '"' {
			out.WriteByte(compact[i])
			i++
			continue
		}
		end := tokenEnd(compact, i)
		var text string
		_ = json.Unmarshal(compact[i:end], &text) // can't fail: it is a string
		_ = encoder.Encode(text)
		out.Truncate(out.Len() - 1) // the line break that Encode adds
		i = end
	}
	return out.Bytes()
}

// spaced writes compact, valid JSON with a space after each comma and colon outside strings.
func spaced(compact []byte) []byte {
	var out []byte
	for i := 0; i < len(compact); {
		if compact[i] == '"' {
			end := tokenEnd(compact, i)
			out = append(out, compact[i:end]...)
			i = end
			continue
		}
		out = append(out, compact[i])
		if compact[i] == ',' || compact[i] == ':' {
			out = append(out, ' ')
		}
		i++
	}
	return out
}

func reasons(key, body string) string {
	switch {
	case key == "":
		return body
	case body == "":
		return key
	}
	return key + "; and " + body
}

// otherwise is the reason when no usual mistake explains the mismatch.
func otherwise(body []byte) string {
	return fmt.Sprintf("none of the usual mistakes explains it: signed with another secret, or another body than these %d bytes", len(body))
}
