// Package sign makes and checks the signatures that events carry, and keeps secrets from being shown.
//
// Two schemes, both HMAC-SHA256 over bytes exactly as they travel:
//
//	realtorbot   X-RealtorBot-Signature: <64 lower-case hex digits>
//	             over the body; the key is the secret's bytes as they are written
//	standard     webhook-signature: v1,<base64> [v1,<base64> …]
//	             over id.timestamp.body (Standard Webhooks 1.0); the key is what the base64 behind whsec_ decodes to
//
// RealtorBot and Standard sign once with a key at hand; a Signer does the same for an endpoint that signs all day.
// VerifyRealtorBot and VerifyStandard check, in a time that depends neither on which of several secrets matched nor on
// where a signature first differs. An empty secret never signs and never verifies: whoever knows that it is empty could
// forge what it signed.
//
// The package has no clock, no HTTP and no log. Its errors never hold a secret or an expected signature.
package sign
