package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// postClass is one kind of post in a load.
type postClass struct {
	name       string
	path       string
	size       int // bytes of an event
	credential credential
}

// credential appends the header lines with which a source knows its own, of ever the same length.
type credential func(to, id, body []byte, now time.Time) []byte

func noCredential(to, _, _ []byte, _ time.Time) []byte { return to }

func tokenCredential(token string) credential {
	return func(to, _, _ []byte, _ time.Time) []byte {
		return fmt.Appendf(to, "Authorization: Bearer %s\r\n", token)
	}
}

// documentedCredential signs as Realtor Bot's documentation has it.
func documentedCredential(secret string) credential {
	return func(to, _, body []byte, _ time.Time) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = mac.Write(body)
		return append(hex.AppendEncode(append(to, "X-RealtorBot-Signature: "...), mac.Sum(nil)), "\r\n"...)
	}
}

// standardCredential signs as Standard Webhooks has it. secret begins with whsec_.
func standardCredential(secret string) credential {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err) // a constant of ours
	}
	return func(to, id, body []byte, now time.Time) []byte {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.", id, now.Unix())
		_, _ = mac.Write(body)
		to = fmt.Appendf(to, "Webhook-Id: %s\r\nWebhook-Timestamp: %010d\r\nWebhook-Signature: v1,", id, now.Unix())
		return append(base64.StdEncoding.AppendEncode(to, mac.Sum(nil)), "\r\n"...)
	}
}

// realMix are the posts of a day, as sources of every kind send them: seven of ten small, two of 4 KiB, one of 64 KiB. Ten of each kind of
// source follow on another.
func realMix() (classes []postClass) {
	for _, of := range []struct {
		name, path string
		credential credential
	}{
		{"open", "/events", noCredential},
		{"token", "/token", tokenCredential(attackToken)},
		{"documented signature", "/signed", documentedCredential(attackSecret)},
		{"standard signature", "/standard", standardCredential(labSecret)},
	} {
		for i := range 10 {
			c := postClass{name: of.name + ", small", path: of.path, size: 300, credential: of.credential}
			switch i {
			case 3, 7:
				c.name, c.size = of.name+", 4 KiB", 4<<10
			case 5:
				c.name, c.size = of.name+", 64 KiB", 64<<10
			}
			classes = append(classes, c)
		}
	}
	return classes
}
