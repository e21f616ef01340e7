package config

import (
	"net/url"
	"strings"

	"realtorbot-relay/sign"
)

// URL is where an endpoint is. It shows itself without what may be a credential in it: its query always, and all behind its
// host when it was named by reference or its path is one, as those of incoming webhooks are. The zero URL is none.
type URL struct {
	text   sign.Secret
	hidden bool
}

// NewURL is text, which stands in a file. A path that looks like a credential is hidden.
func NewURL(text string) URL {
	return URL{text: sign.NewSecret(text), hidden: holdsCredential(text)}
}

// IsZero reports whether there is no URL.
func (u URL) IsZero() bool { return u.text.IsZero() }

// Reveal is the URL itself, for those who connect to it.
func (u URL) Reveal() string { return u.text.Reveal() }

// Equal reports whether two lead to the same place, wherever their texts stand.
func (u URL) Equal(other URL) bool { return u.text.Equal(other.text) }

// Hidden reports whether all behind the host is a secret.
func (u URL) Hidden() bool { return u.hidden }

// String is what may be shown.
func (u URL) String() string {
	text := u.text.Reveal()
	parsed, err := url.Parse(text)
	switch {
	case text == "":
		return ""
	case err != nil || parsed.Host == "":
		return u.text.String()
	case u.hidden:
		return parsed.Scheme + "://" + parsed.Host + "/" + u.text.String()
	case parsed.RawQuery != "":
		parsed.RawQuery = ""
		return parsed.String() + "?" + u.text.String()
	}
	return text
}

// longStep is the length in bytes from which a step of a path with letters and digits is more likely a key than a name.
const longStep = 16

// holdsCredential reports whether the path of a URL is what lets its caller in: it has a step that nobody would choose as a
// name, or it is of a host for nothing else (hooks.slack.com, hooks.zapier.com, hook.eu1.make.com).
func holdsCredential(text string) bool {
	parsed, err := url.Parse(text)
	if err != nil || strings.Trim(parsed.Path, "/") == "" {
		return false
	}
	host := strings.ToLower(parsed.Hostname())
	if strings.HasPrefix(host, "hooks.") || strings.HasPrefix(host, "hook.") {
		return true
	}
	for step := range strings.SplitSeq(strings.ToLower(parsed.Path), "/") {
		if len(step) >= longStep && strings.ContainsAny(step, "0123456789") && strings.ContainsAny(step, "abcdefghijklmnopqrstuvwxyz") {
			return true
		}
	}
	return false
}

// secretURL is a URL that is a secret, or none.
var secretURL = kind{schema: schema{"type": "string", "pattern": "^$|" + endpointURL.schema["pattern"].(string)}, secret: true, read: secret.read}

const urlNeeded = `url = "https://…"`

// endpointURL is a URL, in place or by reference.
var endpointURL = kind{
	schema: schema{"type": "string", "pattern": `^(env|file|cred):|^[hH][tT][tT][pP][sS]?://`},
	secret: true,
	read: func(t *table, key string, value, into any) {
		inPlace := t.literals
		text := t.secret(key, value)
		if value == "" {
			t.fault(key, "is missing: write %s", urlNeeded)
		}
		if text.IsZero() {
			return // and has been told why
		}
		where := NewURL(text.Reveal())
		if written, _ := value.(string); isReference(written) {
			where.hidden = true
		} else if !where.hidden {
			t.literals = inPlace
		}
		*into.(*URL) = where
	},
}
