package sign

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
)

func TestNewSignerRefuses(t *testing.T) {
	good, bad := NewSecret(vectorSecret), NewSecret("plain text of some length")
	for _, c := range []struct {
		name              string
		schemes           []string
		current, previous Secret
		badKey            bool
	}{
		{"unknown scheme", []string{"sha1"}, good, Secret{}, false},
		{"current secret unfit for standard", []string{SchemeStandard}, bad, Secret{}, true},
		{"previous secret unfit for standard", []string{SchemeStandard}, good, bad, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewSigner(c.schemes, c.current, c.previous)
			if err == nil || errors.Is(err, ErrBadKey) != c.badKey {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "plain text") {
				t.Errorf("error shows the secret: %v", err)
			}
		})
	}
	if _, err := NewSigner([]string{SchemeRealtorBot}, bad, bad); err != nil {
		t.Errorf("realtorbot takes any secret: %v", err)
	}
}

func TestSignerIsSafeForConcurrentUse(t *testing.T) {
	secret := NewSecret(vectorSecret)
	signer, err := NewSigner([]string{SchemeRealtorBot, SchemeStandard}, secret, NewSecret(whsec(40)))
	if err != nil {
		t.Fatal(err)
	}
	keys := []StandardKey{mustStandardKey(t, vectorSecret), mustStandardKey(t, whsec(40))}
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			body := bytes.Repeat([]byte{byte('a' + worker)}, 300+worker)
			for unix := range int64(200) {
				if !bytes.Equal(signer.RealtorBot(nil, body), RealtorBot(nil, secret, body)) {
					t.Error("RealtorBot differs under load")
				}
				if !bytes.Equal(signer.Standard(nil, "evt_1", unix, body), Standard(nil, keys, "evt_1", unix, body)) {
					t.Error("Standard differs under load")
				}
			}
		})
	}
	wait.Wait()
}

func TestSignerAllocatesLessThanSigningAnew(t *testing.T) {
	secret, keys := NewSecret(vectorSecret), []StandardKey{mustStandardKey(t, vectorSecret)}
	signer, err := NewSigner([]string{SchemeRealtorBot, SchemeStandard}, secret, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	body, dst := make([]byte, 250), make([]byte, 0, 128)
	anew := testing.AllocsPerRun(500, func() {
		RealtorBot(dst, secret, body)
		Standard(dst, keys, "evt_1", vectorUnix, body)
	})
	kept := testing.AllocsPerRun(500, func() {
		signer.RealtorBot(dst, body)
		signer.Standard(dst, "evt_1", vectorUnix, body)
	})
	// 0 in a plain build; the race detector makes a sync.Pool lose some of what is put into it.
	if kept > anew/2 {
		t.Errorf("%v allocations with a Signer, %v without", kept, anew)
	}
}

// BenchmarkSigner compares the two ways to sign an event of 250 bytes.
func BenchmarkSigner(b *testing.B) {
	secret, keys := NewSecret(vectorSecret), []StandardKey{mustStandardKey(b, vectorSecret)}
	signer, err := NewSigner([]string{SchemeRealtorBot, SchemeStandard}, secret, Secret{})
	if err != nil {
		b.Fatal(err)
	}
	body, dst := make([]byte, 250), make([]byte, 0, 128)
	for _, c := range []struct {
		name string
		sign func()
	}{
		{"realtorbot/signer", func() { signer.RealtorBot(dst, body) }},
		{"realtorbot/anew", func() { RealtorBot(dst, secret, body) }},
		{"standard/signer", func() { signer.Standard(dst, "evt_1", vectorUnix, body) }},
		{"standard/anew", func() { Standard(dst, keys, "evt_1", vectorUnix, body) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.sign()
			}
		})
	}
}
