package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/canonical"
	"realtorbot-relay/sign"
)

// stamp is what a request of the source supplies for an event without an id or a timestamp. With Standard Webhooks the id
// that was signed is the idempotency key: what is posted twice under it is one event. The events of a batch have it with
// their place in the batch.
func (s *source) stamp(h *fasthttp.RequestHeader, now time.Time) canonical.Stamp {
	if s.Secret.IsZero() || s.Scheme != sign.SchemeStandard {
		return canonical.Stamp{Now: now, NewID: newID}
	}
	key, place := bytes.Clone(h.Peek("Webhook-Id")), 0
	return canonical.Stamp{Now: now, NewID: func(dst []byte) []byte {
		dst = appendKey(dst, key, place)
		place++
		return dst
	}}
}

// appendKey adds an id made of a key: for the first event without an id the key itself, where that is one. For those behind
// it, it is a digest of key and place: whatever could be read in it, the sender may give to another message.
func appendKey(dst, key []byte, place int) []byte {
	if place == 0 && canonical.IsID(key) {
		return append(dst, key...)
	}
	if place > 0 { // no header holds a line feed
		key = strconv.AppendInt(append(bytes.Clone(key), '\n'), int64(place), 10)
	}
	sum := sha256.Sum256(key)
	return hex.AppendEncode(append(dst, "evt_"...), sum[:])
}

// admitsHost reports whether a request to a source that asks for no credential is one to this machine, by what it says.
// Pages of the web, which a browser on this machine may run, reach loopback under names of their own.
func (s *source) admitsHost(h *fasthttp.RequestHeader, here net.Addr) bool {
	if tcp, ok := here.(*net.TCPAddr); !s.open || !ok || !tcp.IP.IsLoopback() {
		return true
	}
	host := string(h.Host())
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || err == nil && address.Unmap().IsLoopback()
}

// newID makes an id whose text sorts by time.
func newID(dst []byte) []byte {
	id := ulid.Make()
	dst = append(dst, "evt_"...)
	at := len(dst)
	dst = append(dst, make([]byte, ulid.EncodedSize)...)
	_ = id.MarshalTextTo(dst[at:]) // the only error is a buffer of the wrong size
	return dst
}
