package sign

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// RealtorBot appends to dst the value of X-RealtorBot-Signature for body: 64 lower-case hex digits, the HMAC-SHA256 of
// body under the secret's bytes as they are written (a whsec_ in front is part of the key). An empty key signs
// nothing: dst comes back as it was.
func RealtorBot(dst []byte, key Secret, body []byte) []byte {
	if key.IsZero() {
		return dst
	}
	return hex.AppendEncode(dst, newMACState(key.Reveal()).over(body))
}

// VerifyRealtorBot checks header, the value of X-RealtorBot-Signature, against the body as it was received, byte for
// byte. One of keys must match; all are tried whichever does, and empty ones are passed over. Errors: ErrMalformed,
// ErrNoMatch, ErrNoKey.
func VerifyRealtorBot(header string, body []byte, keys ...Secret) error {
	var got [sha256.Size]byte
	if len(header) != hex.EncodedLen(len(got)) {
		return fmt.Errorf("%w: %d characters, want %d hex digits", ErrMalformed, len(header), hex.EncodedLen(len(got)))
	}
	for i := range len(header) {
		c := header[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%w: character %d is not a lower-case hex digit", ErrMalformed, i+1)
		}
	}
	if _, err := hex.Decode(got[:], []byte(header)); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}

	tried, matched := 0, 0
	for _, key := range keys {
		if key.IsZero() {
			continue
		}
		tried++
		matched |= equal(newMACState(key.Reveal()).over(body), got[:])
	}
	switch {
	case tried == 0:
		return ErrNoKey
	case matched == 0:
		return ErrNoMatch
	}
	return nil
}
