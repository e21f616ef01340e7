package try

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"realtorbot-relay/relay/exit"
)

// Verify is the command verify: says whether a signature is that of the body on stdin and, if not, why. It returns 0
// when it matches, 1 when it doesn't or the body can't be read, and 2 for bad usage. The signature that would be right
// is never printed: whoever may know it can compute it.
func Verify(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := newCommand("verify", "-secret S [-previous-secret S] -header H [-id ID -timestamp T] < body",
		"Says whether a signature is that of the body on standard input and, if not, why. The body must be the bytes\n"+
			"as they were received. -previous-secret is one that a sender may still use while secrets are rotated.\n"+
			"-header is the value of X-RealtorBot-Signature, or that of webhook-signature, which starts with v1, and needs\n"+
			"-id and -timestamp.", stdout, stderr)
	secretText := c.flags.String("secret", "", secretUsage+" (required)")
	previousText := c.flags.String("previous-secret", "", secretUsage)
	header := c.flags.String("header", "", "`value` of X-RealtorBot-Signature or webhook-signature (required)")
	id := c.flags.String("id", "", "`value` of webhook-id")
	timestamp := c.flags.String("timestamp", "", "`value` of webhook-timestamp, in seconds")
	if code, done := c.parse(args); done {
		return code
	}
	secret, err := c.secret("secret", *secretText)
	if err != nil {
		return c.usage("%v", err)
	}
	if secret.IsZero() {
		return c.usage("-secret is required")
	}
	previous, err := c.secret("previous-secret", *previousText)
	if err != nil {
		return c.usage("%v", err)
	}
	signature, standard := headerValue(*header)
	if signature == "" {
		return c.usage("-header is required: the value of X-RealtorBot-Signature, or of webhook-signature with -id and -timestamp")
	}
	if standard && (*id == "" || *timestamp == "") {
		return c.usage("a webhook-signature needs -id and -timestamp, the values of webhook-id and webhook-timestamp")
	}
	body, err := Input(ctx, "verify", "the body", stdin, stderr)
	if err != nil {
		return c.fail("read body: %v", err)
	}

	known := secrets{current: secret, previous: previous}
	scheme, why := "X-RealtorBot-Signature", ""
	if standard {
		scheme = "webhook-signature"
		why = whyStandard(signature, *id, *timestamp, body, known, time.Now())
	} else {
		why = whyRealtorBot(signature, body, known)
	}
	if why != "" {
		fmt.Fprintf(stdout, "does NOT match (%s): %s\n", scheme, why)
		return exit.Failed
	}
	fmt.Fprintf(stdout, "matches: %s is right for these %d bytes\n", scheme, len(body))
	return exit.Well
}

// headerValue takes the name from a header that was copied as a whole line, and tells which of the two kinds it is: by
// its name, else by its form.
func headerValue(header string) (value string, standard bool) {
	name, value, named := strings.Cut(header, ":")
	if !named {
		return header, strings.HasPrefix(header, "v1,") || strings.HasPrefix(header, "v1a,")
	}
	return strings.TrimSpace(value), strings.EqualFold(strings.TrimSpace(name), "webhook-signature")
}
