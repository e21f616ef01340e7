package client

import (
	"net/netip"
	"strings"
	"testing"
)

func TestGuardAllowsWhatTheOperatorWrote(t *testing.T) {
	for _, c := range []struct {
		host, addr   string
		allowPrivate bool
		refused      bool
	}{
		{"crm.example.com", "8.8.8.8", false, false},
		{"crm.example.com", "10.0.0.1", false, true},
		{"crm.example.com", "10.0.0.1", true, false},
		{"crm.example.com", "127.0.0.1", false, true},
		{"crm.example.com", "127.0.0.1", true, false},
		{"crm.example.com", "::ffff:10.0.0.1", false, true},
		{"crm.example.com", "64:ff9b::10.0.0.1", false, true},
		{"crm.example.com", "169.254.169.254", true, true},
		{"crm.example.com", "fd00:ec2::254", true, true},
		{"crm.example.com", "fd00:ec2::23", true, true},
		{"crm.example.com", "fd00:42::42", true, true},
		{"crm.example.com", "fd00:c1::a9fe:a9fe", true, true},
		{"crm.example.com", "fd00:c1::a9fe:a9ff", true, false},
		{"crm.example.com", "fe80::1%eth0", true, true},
		{"crm.example.com", "0.0.0.0", true, true},
		{"crm.example.com", "224.0.0.1", true, true},
		{"localhost", "127.0.0.1", false, false},
		{"LocalHost", "::1", false, false},
		{"localhost", "10.0.0.1", false, true},
		{"localhost.example.com", "127.0.0.1", false, true},
		{"10.0.0.1", "10.0.0.1", false, false},
		{"10.0.0.1", "10.0.0.2", false, true},
		{"127.0.0.1", "127.0.0.1", false, false},
		{"::1", "::1", false, false},
		{"fd12::1", "fd12::1", false, false},
		{"::ffff:127.0.0.1", "127.0.0.1", false, false},
		{"100.64.0.1", "100.64.0.1", false, false},
		{"169.254.169.254", "169.254.169.254", true, true},
		{"fe80::1", "fe80::1", true, true},
		{"0.0.0.0", "0.0.0.0", true, true},
		{"::", "::", true, true},
		{"255.255.255.255", "255.255.255.255", true, true},
		{"192.0.2.1", "192.0.2.1", true, true},
	} {
		err := newGuard("crm", c.host, c.allowPrivate).check(netip.MustParseAddr(c.addr))
		if (err != nil) != c.refused {
			t.Errorf("%s, dialling %s, allow_private %v: got %v", c.host, c.addr, c.allowPrivate, err)
		}
	}
}

func TestGuardReadsWhatTheDialerShows(t *testing.T) {
	g := newGuard("crm", "crm.example.com", false)
	for address, refused := range map[string]bool{
		"8.8.8.8:80": false, "[2606:4700::1111]:443": false, "10.0.0.1:80": true, "[fe80::1%eth0]:80": true, "what": true,
	} {
		if err := g.control(t.Context(), "tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

func TestGuardedNamesTheSectionThatAllows(t *testing.T) {
	for _, tt := range []struct {
		host, address string
		allowPrivate  bool
		says          string
	}{
		{"example.com", "192.0.66.1:443", false, ""},
		{"example.com", "10.0.0.1:443", false, "heartbeat.allow_private = true lets"},
		{"example.com", "10.0.0.1:443", true, ""},
		{"10.0.0.1", "10.0.0.1:443", false, ""},
		{"example.com", "169.254.169.254:80", true, "no setting allows it"},
	} {
		err := DialControl("heartbeat", tt.host, tt.allowPrivate)(t.Context(), "tcp", tt.address, nil)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
