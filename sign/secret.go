package sign

import (
	"crypto/subtle"
	"fmt"
)

// Secret is a key or token that can't be shown by accident: printed, formatted with any verb or marshalled it is
// stars. The zero Secret is empty. A Secret is immutable and safe for concurrent use; compare with Equal, as == does
// not compile.
type Secret struct {
	_ [0]func() // makes == a compile error: it would compare addresses, and not in constant time

	// text is behind a pointer because fmt doesn't call the methods of a value that it reaches through an unexported
	// field, nor after a bad verb: it prints the fields as they are, and of a pointer that is the address. Nil is empty.
	text *string
}

const stars = "********"

// NewSecret keeps text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// IsZero reports whether the secret is empty, which means that none was configured.
func (s Secret) IsZero() bool { return s.text == nil }

// Len is the secret's length in bytes, for warnings about short ones.
func (s Secret) Len() int { return len(s.Reveal()) }

// Reveal returns the secret itself. The only places that may call it are those that compute with it or send it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Equal reports whether other holds the same text, in a time that depends on the lengths alone.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// Admits reports whether presented, as a client sent it, is this secret, in a time that depends on the lengths alone.
// An empty secret admits nothing.
func (s Secret) Admits(presented []byte) bool {
	return s.text != nil && subtle.ConstantTimeCompare([]byte(*s.text), presented) == 1
}

// String hides the secret.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return stars
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText hides the secret from JSON, TOML and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
