package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Standard Webhooks 1.0, "Signature scheme": the marks of a symmetric secret and of its signatures, and the sizes a
// secret may have, in bytes.
const (
	standardPrefix  = "whsec_"
	standardVersion = "v1,"
	standardKeyMin  = 24
	standardKeyMax  = 64
)

// StandardKey is the key of a Standard Webhooks secret, decoded by ParseStandardKey. It hides itself as Secret does. The
// zero StandardKey is empty: it signs nothing and verifies nothing.
type StandardKey struct {
	Secret // the decoded bytes
}

// ParseStandardKey decodes a secret of Standard Webhooks 1.0: whsec_ and the base64 of 24 to 64 bytes. Anything else
// is ErrBadKey, whose text says what is wrong with the secret without showing any of it.
func ParseStandardKey(secret Secret) (StandardKey, error) {
	encoded, marked := strings.CutPrefix(secret.Reveal(), standardPrefix)
	if !marked {
		return StandardKey{}, fmt.Errorf("%w: it must start with %s", ErrBadKey, standardPrefix)
	}
	// The decoder passes over line breaks; in a secret they are an accident of copying that other libraries refuse.
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return StandardKey{}, fmt.Errorf("%w: what follows %s must be base64 (A-Z a-z 0-9 + / and = at the end)",
			ErrBadKey, standardPrefix)
	}
	if len(key) < standardKeyMin || len(key) > standardKeyMax {
		return StandardKey{}, fmt.Errorf("%w: its base64 holds %d bytes, must be %d to %d",
			ErrBadKey, len(key), standardKeyMin, standardKeyMax)
	}
	return StandardKey{NewSecret(string(key))}, nil
}

// Standard appends to dst the value of webhook-signature: "v1,<base64>" for each key, in order, separated by a space.
// What is signed is id.timestamp.body (Standard Webhooks 1.0), where the timestamp is unix, the attempt's time in
// seconds, in decimal. The body must be JSON: see VerifyStandard. Empty keys sign nothing.
func Standard(dst []byte, keys []StandardKey, id string, unix int64, body []byte) []byte {
	start := len(dst)
	for _, key := range keys {
		if key.IsZero() {
			continue
		}
		state := newMACState(key.Reveal())
		state.head = appendStandardHead(state.head, id, unix)
		dst = appendStandard(dst, start, state.over(body))
	}
	return dst
}

// appendStandard adds one signature to the list that begins at dst[start].
func appendStandard(dst []byte, start int, sum []byte) []byte {
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	dst = append(dst, standardVersion...)
	return base64.StdEncoding.AppendEncode(dst, sum)
}

func appendStandardHead(dst []byte, id string, unix int64) []byte {
	dst = append(dst, id...)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, unix, 10)
	return append(dst, '.')
}

// VerifyStandard checks the headers webhook-signature, webhook-id and webhook-timestamp (Standard Webhooks 1.0) against
// the body as it was received, byte for byte. header may list several signatures, of which one must match one of keys;
// all are tried whichever does. Signatures of unknown versions and empty keys are passed over. now and the timestamp
// may be up to tolerance apart, to the second, either way. Errors: ErrMalformed, ErrTimestampTooOld,
// ErrTimestampTooNew, ErrNoMatch, ErrNoKey.
//
// An id may hold full stops when the body is one JSON object or array, or lines of them: the caller refuses any other. Then the
// signed text can be cut into id, timestamp and body in one way alone. A body that begins elsewhere begins within a string of
// the one that was signed, or with an odd part of the id; it ends within a string, and is no JSON.
func VerifyStandard(header, id, timestamp string, body []byte, now time.Time, tolerance time.Duration,
	keys ...StandardKey) error {
	signatures, err := parseStandard(header)
	if err != nil {
		return err
	}
	if id == "" {
		return fmt.Errorf("%w: webhook-id must be there", ErrMalformed)
	}
	// A compressed body begins with bytes that are not printable, so that no id can have them.
	if strings.Contains(id, ".") && strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: webhook-id with a full stop must be printable ASCII without space", ErrMalformed)
	}
	unix, err := parseUnix(timestamp)
	if err != nil {
		return err
	}
	seconds := int64(tolerance / time.Second)
	switch age := now.Unix() - unix; {
	case age > seconds:
		return fmt.Errorf("%w: signed %d s ago, at most %d s are tolerated", ErrTimestampTooOld, age, seconds)
	case age < -seconds:
		return fmt.Errorf("%w: signed %d s ahead, at most %d s are tolerated", ErrTimestampTooNew, -age, seconds)
	}

	tried, matched := 0, 0
	for _, key := range keys {
		if key.IsZero() {
			continue
		}
		tried++
		state := newMACState(key.Reveal())
		state.head = append(state.head, id+"."+timestamp+"."...)
		sum := state.over(body)
		for i := range signatures {
			matched |= equal(sum, signatures[i][:])
		}
	}
	switch {
	case tried == 0:
		return ErrNoKey
	case matched == 0:
		return ErrNoMatch
	}
	return nil
}

// parseStandard collects the v1 signatures of a list. A v1 entry that can't be one is ErrMalformed only when no other
// is left to try: a sender in the middle of a change may list what only its next receivers understand.
func parseStandard(header string) ([][sha256.Size]byte, error) {
	var signatures [][sha256.Size]byte
	for entry := range strings.SplitSeq(header, " ") {
		encoded, ok := strings.CutPrefix(entry, standardVersion)
		if !ok || len(encoded) != base64.StdEncoding.EncodedLen(sha256.Size) {
			continue
		}
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(sum) != sha256.Size {
			continue
		}
		signatures = append(signatures, [sha256.Size]byte(sum))
	}
	if len(signatures) == 0 {
		return nil, fmt.Errorf("%w: webhook-signature lists no \"v1,\" with the base64 of %d bytes", ErrMalformed, sha256.Size)
	}
	return signatures, nil
}

// parseUnix reads decimal digits alone: ParseInt would take a sign as well, and now minus a negative could overflow.
func parseUnix(timestamp string) (int64, error) {
	unix, err := strconv.ParseUint(timestamp, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: webhook-timestamp must be the seconds since 1970 in decimal digits", ErrMalformed)
	}
	return int64(unix), nil
}
