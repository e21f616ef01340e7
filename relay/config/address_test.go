package config

import (
	"strings"
	"testing"
)

func TestLoopbackIsWhatOnlyThisMachineReaches(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:8080": true, "127.9.9.9:0": true, "[::1]:8080": true, "[::ffff:127.0.0.1]:1": true, "localhost:80": true,
		"unix:/run/x.sock": true, ":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "10.0.0.1:80": false,
		"example.com:80": false, "localhost.example.com:80": false, "127.0.0.1": false, "": false, "127.1:80": false,
	} {
		if got := IsLoopback(listen); got != want {
			t.Errorf("%q: got %v", listen, got)
		}
	}
}

func TestListenAddresses(t *testing.T) {
	long := "unix:/" + strings.Repeat("x", longestUnixPath)
	for listen, accepted := range map[string]bool{
		"127.0.0.1:8080": true, ":8080": true, "[::]:8080": true, "relay.internal:8080": true, "127.0.0.1:0": true,
		"unix:/run/x.sock": true, long[:len(long)-1]: true,
		long: false, "unix:x.sock": false, "unix:": false, "unix:@abstract": false, "8080": false, "127.0.0.1": false,
		"127.0.0.1:65536": false, "127.0.0.1:http": false, "127.0.0.1:": false, "127.1:80": false, "http://127.0.0.1:80": false,
		"a b:80": false, "": false,
	} {
		if reason := checkListen(listen); (reason == "") != accepted {
			t.Errorf("%q: %q", listen, reason)
		}
	}
}

func TestURLs(t *testing.T) {
	for _, test := range []struct {
		url    string
		reason string // a part of it; "" for an accepted URL
	}{
		{"https://example.com/webhooks?key=1", ""},
		{"HTTPS://Example.COM", ""},
		{"http://127.0.0.1:3000/webhooks/realtorbot", ""},
		{"http://localhost:3000/", ""},
		{"http://10.0.0.1/", ""},
		{"https://[2606:4700::1111]:8443/a%20b", ""},
		{"https://[64:ff9b::8.8.8.8]/", ""},
		{"http://[::1]/", ""},
		{"https://xn--bcher-kva.example/", ""},
		{"https://my_host.internal/", ""},
		{"", "beginning with http"},
		{"example.com", "beginning with http"},
		{"ftp://example.com/", "beginning with http"},
		{"http:example.com", "beginning with http"},
		{"https://", "must be a URL"},
		{"https:///path", "must be a URL"},
		{"https://:443/", "must be a URL"},
		{"https://user@example.com/", "user or password"},
		{"https://user:secret@example.com/", "user or password"},
		{"https://example.com/#top", "fragment"},
		{"https://example.com/#", "fragment"},
		{"https://exa mple.com/", "spaces"},
		{"https://example.com/a b", "spaces"},
		{"https://example.com\\@evil.example/", "backslashes"},
		{"https://example.com/\n", "control characters"},
		{"https://[fe80::1%25eth0]/", "zone"},
		{"https://[fe80::1%eth0]/", "zone"},
		{"https://ex%61mple.com/", "escape"},
		{"https://example.com./", "dot at its end"},
		{"https://127.0.0.1./", "dot at its end"},
		{"https://127.1/", "four plain decimal"},
		{"https://2130706433/", "four plain decimal"},
		{"https://0x7f000001/", "four plain decimal"},
		{"https://0x7f.0.0.0x1/", "four plain decimal"},
		{"https://127.0.0.01/", "four plain decimal"},
		{"https://0X7F.1/", "four plain decimal"},
		{"https://1.2.3.4.5/", "four plain decimal"},
		{"https://256.1.1.1/", "four plain decimal"},
		{"https://0x/", "four plain decimal"},
		{"https://example.com:0/", "port"},
		{"https://example.com:/", "port"},
		{"https://example.com:65536/", "port"},
		{"https://example.com:https/", "must be a URL"},
		{"https://[::1/", "must be a URL"},
		{"https://::1/", "must be a URL"},
		{"https://[example.com]/", "must be a URL"},
		{"https://[127.0.0.1]/", "must be a URL"},
		{"https://bücher.example/", "xn--"},
		{"https://example。com/", "xn--"},
		{"https://-a.example/", "valid host name"},
		{"https://a..example/", "valid host name"},
		{"https://*.example.com/", "xn--"},
		{"http://169.254.169.254/latest/meta-data/", "link-local"},
		{"http://[::ffff:169.254.169.254]/", "link-local"},
		{"http://[64:ff9b::a9fe:a9fe]/", "link-local"},
		{"http://[2002:a9fe:a9fe::1]/", "link-local"},
		{"http://[::127.0.0.1]/", "special-purpose"},
		{"http://192.0.2.1/", "special-purpose"},
		{"http://240.0.0.1/", "special-purpose"},
		{"http://[2001:db8::1]/", "special-purpose"},
		{"http://0.1.2.3/", "special-purpose"},
		{"http://[fe80::1]/", "link-local"},
		{"http://[fd00:ec2::254]/", "metadata"},
		{"http://100.100.100.200/", "metadata"},
		{"http://168.63.129.16/", "metadata"},
		{"http://[fd20:ce::254]/", "metadata"},
		{"http://0177.0.0.1/", "four plain decimal"},
		{"http://127.0.0.1.:80/", "dot at its end"},
		{"http://0x7f.1:8080/x", "four plain decimal"},
		{"http://0.0.0.0/", "no address to connect to"},
		{"http://[::]/", "no address to connect to"},
		{"http://224.0.0.1/", "group's address"},
		{"http://255.255.255.255/", "group's address"},
	} {
		_, reason := checkURL(test.url)
		if test.reason == "" && reason != "" || !strings.Contains(reason, test.reason) {
			t.Errorf("%q: got %q, want %q", test.url, reason, test.reason)
		}
	}
}

func TestURLsThatStayLocal(t *testing.T) {
	for text, want := range map[string][2]bool{ // loopback, local
		"http://127.0.0.1/": {true, true}, "http://[::1]/": {true, true}, "http://LOCALHOST/": {true, true},
		"http://[::ffff:127.0.0.1]/": {true, true}, "http://192.168.1.1/": {false, true}, "http://[fd00::1]/": {false, true},
		"http://100.64.0.1/": {false, true}, "http://8.8.8.8/": {false, false}, "http://[64:ff9b::7f00:1]/": {true, true}, "http://crm.internal/": {false, false},
	} {
		where, reason := checkURL(text)
		if got := [2]bool{where.isLoopback(), where.isLocal()}; reason != "" || got != want {
			t.Errorf("%q: got %v, want %v (%s)", text, got, want, reason)
		}
	}
}
