package client

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

func TestMaskHidesEveryOccurrence(t *testing.T) {
	ep := testEndpoint("http://127.0.0.1")
	ep.Headers = map[string]sign.Secret{"X-Key": sign.NewSecret("abcabc"), "X-Auth": sign.NewSecret("Basic Zm9vOmJhcg==")}
	r, err := newTemplate(ep, "1")
	if err != nil {
		t.Fatal(err)
	}
	excerpt := []byte("abcabc abcabcabcabc Zm9vOmJhcg== abcab")
	r.mask().apply(excerpt)
	if want := "****** ************ ************ abcab"; string(excerpt) != want {
		t.Errorf("got %q, want %q", excerpt, want)
	}
}

// A receiver that debugs shows what it got as its tools write it.
func TestMaskHidesEverySpelling(t *testing.T) {
	const secret, header, path = `q"K7/x+&<o'8>\zz9=`, "Basic dXNlcjpsZXQ+bWUvaW4/", "/services/T0/B0/Zq8+x%2Fy"
	ep := testEndpoint("http://127.0.0.1")
	ep.URL = config.NewURL("http://hooks.example.com" + path + "?key=s3cr3t%2Bkey")
	ep.Secret = sign.NewSecret(secret)
	ep.Headers = map[string]sign.Secret{"Authorization": sign.NewSecret(header)}
	r, err := newTemplate(ep, "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{secret, "user:let>me/in?", "let>me/in?", header, path, "Zq8+x/y", "s3cr3t+key"} {
		quoted, _ := json.Marshal(value) // escapes < > & as well
		plain := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		for how, text := range map[string]string{
			"plain": value, "JavaScript": plain, "PHP": strings.ReplaceAll(plain, "/", `\/`), "Go": strings.Trim(string(quoted), `"`),
			"HTML": html.EscapeString(value), "query": url.QueryEscape(value), "path": url.PathEscape(value),
			"hex": hex.EncodeToString([]byte(value)), "HEX": fmt.Sprintf("%X", value),
			"every byte escaped": strings.ReplaceAll(fmt.Sprintf(" % X", value), " ", "%"), "in lower case": strings.ReplaceAll(fmt.Sprintf(" % x", value), " ", "%"),
		} {
			excerpt := []byte("you sent (" + text + ") to us")
			if r.mask().apply(excerpt); string(excerpt) != "you sent ("+strings.Repeat("*", len(text))+") to us" {
				t.Errorf("%s of %q: %s", how, value, excerpt)
			}
		}
		for before := range 3 {
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				excerpt := []byte(encoding.EncodeToString([]byte("abc"[:before] + value + "and more")))
				from, to := (before*8+5)/6, (before+len(value))*8/6
				if r.mask().apply(excerpt); strings.Trim(string(excerpt[from:to]), "*") != "" {
					t.Errorf("%q in base64 behind %d bytes: %s", value, before, excerpt)
				}
			}
		}
	}
	// What is none stays.
	const harmless = `{"error":"signature does not match","path":"/webhooks","hint":"whsec_ and base64"}`
	excerpt := []byte(harmless)
	if r.mask().apply(excerpt); string(excerpt) != harmless {
		t.Errorf("harmless text became %s", excerpt)
	}
}

// An excerpt ends where it is full, and an answer where it breaks off: in the middle of a secret, too.
func TestMaskHidesWhatTheEndCuts(t *testing.T) {
	const secret = "example-secret-key"
	ep := testEndpoint("http://127.0.0.1")
	ep.Secret = sign.NewSecret(secret)
	r, err := newTemplate(ep, "1")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(secret); n++ {
		for how, text := range map[string]string{"plain": secret, "hex": hex.EncodeToString([]byte(secret)), "base64": base64.StdEncoding.EncodeToString([]byte(secret))} {
			full := []byte(strings.Repeat(".", excerptLimit-n) + text[:n])
			if r.mask().apply(full); string(full[excerptLimit-n:]) != strings.Repeat("*", n) {
				t.Errorf("%d bytes of %s at the end of a full excerpt: %s", n, how, full[excerptLimit-n:])
			}
			broken := []byte("token " + text[:n])
			if r.mask().apply(broken); n >= maskMin && strings.Contains(string(broken), text[:n]) {
				t.Errorf("%d bytes of %s where an answer breaks off: %s", n, how, broken)
			}
		}
	}
	whole := []byte("no such example")
	if r.mask().apply(whole); string(whole) != "no such *******" { // which nobody can tell from the beginning of the secret
		t.Errorf("a whole answer became %s", whole)
	}
}

// Which every attempt pays that was answered with a body.
func BenchmarkMask(b *testing.B) {
	ep := testEndpoint("http://127.0.0.1")
	ep.Secret = sign.NewSecret("0f1e2d3c4b5a69788796a5b4c3d2e1f0")
	ep.Headers = map[string]sign.Secret{"Authorization": sign.NewSecret("Bearer 5a69788796a5b4c3d2e1f00f1e2d3c4b")}
	r, err := newTemplate(ep, "1")
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{16, 256, excerptLimit} {
		excerpt := []byte(strings.Repeat(`{"ok":true,"n":1}`, size/17+1)[:size])
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				r.mask().apply(excerpt)
			}
		})
	}
}
