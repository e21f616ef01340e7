package sign

import "errors"

// What a verification says. Each comes wrapped with the detail, so ask with errors.Is.
var (
	// ErrMalformed: the signature, the id or the timestamp isn't of the scheme's form, so nothing was compared.
	ErrMalformed = errors.New("malformed signature")

	// ErrNoMatch: well formed, but made with none of the secrets over these bytes.
	ErrNoMatch = errors.New("signature does not match")

	// ErrTimestampTooOld: the attempt was signed longer ago than tolerated: a replay, a slow line or a wrong clock.
	ErrTimestampTooOld = errors.New("timestamp too old")

	// ErrTimestampTooNew: the attempt claims to be signed further in the future than tolerated: a wrong clock.
	ErrTimestampTooNew = errors.New("timestamp too new")

	// ErrNoKey: no secret to verify with, or only empty ones. It is the caller's fault and not the sender's.
	ErrNoKey = errors.New("no secret to verify with")

	// ErrBadKey: the secret isn't one of Standard Webhooks, which is whsec_ and the base64 of 24 to 64 bytes.
	ErrBadKey = errors.New("not a Standard Webhooks secret")
)
