package client

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// maskMin is how many bytes a value must have to be masked in excerpts: shorter ones are hardly secrets, and masking them would
// replace half the text.
const maskMin = 6

// mask replaces an endpoint's secrets by stars in what its receiver answers. Many receivers echo a request when they debug: as
// it came, as text in JSON or HTML, encoded, or as a dump. It is immutable.
type mask struct {
	spellings [][]byte // of all values, the longest first: masking a short one inside a long one would leave the rest readable
}

// newMask collects the secrets of ep: header values, signing secrets, what may be secret in the URL, and the proxy's
// credentials.
func newMask(ep *config.Endpoint) mask {
	var m mask
	for _, value := range ep.Headers {
		m.hide(value.Reveal())
	}
	for _, secret := range []sign.Secret{ep.Secret, ep.PreviousSecret} {
		text := secret.Reveal()
		m.hide(text)
		if key, isKey := strings.CutPrefix(text, "whsec_"); isKey {
			m.hide(key)
			if raw, err := base64.StdEncoding.DecodeString(key); err == nil {
				m.hide(string(raw))
			}
		}
	}
	m.hideURL(ep.URL)
	p := ep.Delivery.Proxy
	m.hide(proxyAuthorization(p))
	m.hide(p.User.Reveal())
	m.hide(p.Password.Reveal())
	slices.SortFunc(m.spellings, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return bytes.Compare(a, b)
	})
	m.spellings = slices.CompactFunc(m.spellings, bytes.Equal)
	return m
}

// hideURL hides the query of a URL, which often holds a key, and its path when that is a secret.
func (m *mask) hideURL(u config.URL) {
	parsed, err := url.Parse(u.Reveal())
	if err != nil {
		return
	}
	m.hide(parsed.RawQuery)
	for pair := range strings.SplitSeq(parsed.RawQuery, "&") {
		_, value, _ := strings.Cut(pair, "=")
		m.hide(value)
		if decoded, err := url.QueryUnescape(value); err == nil {
			m.hide(decoded)
		}
	}
	if !u.Hidden() {
		return
	}
	m.hide(parsed.EscapedPath())
	m.hide(parsed.Path)
	for step := range strings.SplitSeq(parsed.EscapedPath(), "/") {
		m.hide(step)
		if decoded, err := url.PathUnescape(step); err == nil {
			m.hide(decoded)
		}
	}
}

// hide adds a secret value in every spelling. Of a value with a scheme ("Bearer …") it adds the credentials by themselves too,
// and of "Basic …" what they decode to.
func (m *mask) hide(value string) {
	m.spell(value)
	i := strings.LastIndexByte(value, ' ')
	if i < 0 {
		return
	}
	rest := value[i+1:]
	m.spell(rest)
	if !strings.EqualFold(value[:i], "Basic") {
		return
	}
	if pair, err := base64.StdEncoding.DecodeString(rest); err == nil {
		m.spell(string(pair))
		_, password, _ := strings.Cut(string(pair), ":")
		m.spell(password)
	}
}

// spell adds the spellings of a value: as it is, escaped for JSON, HTML and URLs, in base64 and in hexadecimal digits.
func (m *mask) spell(value string) {
	if len(value) < maskMin {
		return
	}
	quoted := quotes.Replace(value)
	slashed := strings.ReplaceAll(quoted, "/", `\/`)
	for _, text := range []string{
		value, quoted, quotes.Replace(quoted), slashed, markup.Replace(quoted), markupUpper.Replace(slashed), apostrophe.Replace(markup.Replace(quoted)),
		html.EscapeString(value), htmlNamed.Replace(value), htmlPadded.Replace(value),
		url.QueryEscape(value), url.PathEscape(value), component.Replace(url.QueryEscape(value)),
		hex.EncodeToString([]byte(value)),
	} {
		m.add(text)
	}
	m.add(lowerEscapes(url.QueryEscape(value)))
	m.add(lowerEscapes(url.PathEscape(value)))
	m.add(lowerEscapes(component.Replace(url.QueryEscape(value))))
	m.add(strings.ToUpper(hex.EncodeToString([]byte(value))))
	percent := strings.ReplaceAll(fmt.Sprintf(" % X", value), " ", "%") // every byte escaped
	m.add(percent)
	m.add(strings.ToLower(percent))
	m.addBase64(value)
}

func (m *mask) add(text string) {
	if len(text) >= maskMin {
		m.spellings = append(m.spellings, []byte(text))
	}
}

// addBase64 adds the base64 digits that a value always has, whatever stands around it: base64 turns three bytes into four
// digits, so the value may begin at three places.
func (m *mask) addBase64(value string) {
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := encoding.EncodeToString(append(make([]byte, before), value...))
			from, to := (before*8+5)/6, (before+len(value))*8/6
			m.add(text[from:to])
		}
	}
}

var (
	quotes      = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`)
	apostrophe  = strings.NewReplacer("'", `\u0027`)
	markup      = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)
	markupUpper = strings.NewReplacer("<", `\u003C`, ">", `\u003E`, "&", `\u0026`, "'", `\u0027`)
	htmlNamed   = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;")
	htmlPadded  = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#039;")
	component   = strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*") // JavaScript's
)

// lowerEscapes writes %2F as %2f.
func lowerEscapes(text string) string {
	out := []byte(text)
	for i := 0; i+2 < len(out); i++ {
		if out[i] == '%' {
			copy(out[i+1:], bytes.ToLower(out[i+1:i+3]))
		}
	}
	return string(out)
}

// apply masks an excerpt in place. It also masks the beginning of a value at the excerpt's end, where a long answer is cut and
// where a connection may have broken.
func (m mask) apply(excerpt []byte) {
	for _, value := range m.spellings {
		for rest := excerpt; ; {
			i := bytes.Index(rest, value)
			if i < 0 {
				break
			}
			stars(rest[i : i+len(value)])
			rest = rest[i+len(value):]
		}
	}
	shortest := maskMin
	if len(excerpt) >= excerptLimit {
		shortest = 1
	}
	longest := 0
	for _, value := range m.spellings {
		for n := min(len(value), len(excerpt)); n >= shortest && n > longest; n-- {
			if bytes.HasSuffix(excerpt, value[:n]) {
				longest = n
			}
		}
	}
	stars(excerpt[len(excerpt)-longest:])
}

func stars(text []byte) {
	for i := range text {
		text[i] = '*'
	}
}
