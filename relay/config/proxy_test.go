package config

import (
	"fmt"
	"strings"
	"testing"

	"realtorbot-relay/sign"
)

func TestProxies(t *testing.T) {
	secret := sign.NewSecret
	for text, want := range map[string]Proxy{
		"http://proxy.internal:3128":          {Kind: "http", Host: "proxy.internal", Port: 3128},
		"HTTP://Proxy.Internal:3128/":         {Kind: "http", Host: "proxy.internal", Port: 3128},
		"socks5://[::1]:1080":                 {Kind: "socks5", Host: "::1", Port: 1080},
		"socks5://joe:hunter2@10.0.0.1:1080":  {Kind: "socks5", Host: "10.0.0.1", Port: 1080, User: secret("joe"), Password: secret("hunter2")},
		"http://token@10.0.0.1:8080":          {Kind: "http", Host: "10.0.0.1", Port: 8080, User: secret("token")},
		"http://joe:a%40b%3A%2F%3F@h.test:80": {Kind: "http", Host: "h.test", Port: 80, User: secret("joe"), Password: secret("a@b:/?")},
		"http://joe:a@b@h.test:80":            {Kind: "http", Host: "h.test", Port: 80, User: secret("joe"), Password: secret("a@b")},
	} {
		got, reason := parseProxy(text)
		same := got.Kind == want.Kind && got.Host == want.Host && got.Port == want.Port &&
			got.User.Equal(want.User) && got.Password.Equal(want.Password)
		if reason != "" || !same {
			t.Errorf("%s: got %v with %q and %q, reason %q", text, got, got.User.Reveal(), got.Password.Reveal(), reason)
		}
	}
	// Whatever is wrong, what may be a credential is not shown.
	const password = "Zq7canary"
	for _, text := range []string{
		"", "proxy", "ftp://joe:%s@h.test:21", "http://joe:%s@h.test", "http://joe:%s@h.test:0", "http://joe:%s@h.test:65536",
		"http://joe:%s@h.test:http", "http://joe:%s/x@h.test:80", "http://joe:%s?x@h.test:80", "http://joe:%s#x@h.test:80",
		"http://joe:%s x@h.test:80", "http://joe:%s%%zz@h.test:80", "http://joe:%s@h.test:80/path", "http://joe:%s@[fe80::1%%25eth0]:80",
		"http://joe:%s@h.test.:80", "http://joe:%s@2130706433:80", "http://joe:%s@0177.0.0.1:80", "http://joe:%s@0.0.0.0:80",
		"http://joe:%s@[::ffff:169.254.169.254]:80", "http://joe:%s@:80", "http://joe%%3A%s@h.test:80", "http://joe:%s%%0A@h.test:80",
		"socks5://%s@h.test:1080", "socks5://:%s@h.test:1080", "socks5://joe:%s" + strings.Repeat("x", 255) + "@h.test:1080",
	} {
		if strings.Contains(text, "%s") {
			text = fmt.Sprintf(text, password)
		}
		if _, reason := parseProxy(text); reason == "" || strings.Contains(reason, password) {
			t.Errorf("%q: reason %q", text, reason)
		}
	}
}

func TestProxyHidesItsCredentials(t *testing.T) {
	const text = `[delivery]
proxy = "http://joe:Zq7canary@proxy.internal:3128"
[[endpoint]]
name = "crm"
url = "https://example.com/"
events = ["test"]
`
	c := mustParse(t, text)
	for _, shown := range []string{
		c.Describe(), fmt.Sprint(c.Delivery.Proxy), fmt.Sprintf("%+v %#v", c.Endpoints[0], c.Endpoints[0]), strings.Join(c.Warnings, "\n"),
	} {
		if strings.Contains(shown, "Zq7canary") || strings.Contains(shown, "joe") {
			t.Errorf("shows credentials: %s", shown)
		}
	}
	if want := "  through  proxy http://********@proxy.internal:3128\n"; !strings.Contains(c.Describe(), want) {
		t.Errorf("%q is not in\n%s", want, c.Describe())
	}
	r := &reader{file: "x"}
	if _, _ = r.parse([]byte(text), &reading{alone: true}); r.literals != 1 {
		t.Errorf("%d secrets stand in the text, want one", r.literals)
	}
	r = &reader{file: "x"}
	if _, _ = r.parse([]byte(strings.Replace(text, "joe:Zq7canary@", "", 1)), &reading{alone: true}); r.literals != 0 {
		t.Errorf("%d secrets stand in the text of a proxy without any", r.literals)
	}
}

func TestProxyOfAnEndpointOverridesTheDefault(t *testing.T) {
	t.Setenv("RELAY_TEST_PROXY", "socks5://joe:hunter2@10.0.0.1:1080")
	c := mustParse(t, `
[delivery]
proxy = "http://proxy.internal:3128"
[[endpoint]]
name = "default"
url = "https://example.com/"
events = ["test"]
[[endpoint]]
name = "own"
url = "https://example.com/"
events = ["test"]
proxy = "env:RELAY_TEST_PROXY"
[[endpoint]]
name = "none"
url = "http://127.0.0.1/"
events = ["test"]
proxy = ""
`)
	for i, want := range []string{"http://proxy.internal:3128", "socks5://********@10.0.0.1:1080", ""} {
		if got := c.Endpoints[i].Delivery.Proxy.String(); got != want {
			t.Errorf("%s: got %q, want %q", c.Endpoints[i].Name, got, want)
		}
	}
}
