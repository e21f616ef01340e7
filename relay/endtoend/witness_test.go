package endtoend

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
)

// witness keeps all that relay processes let out, and the secrets that they were given.
type witness struct {
	mu      sync.Mutex
	secrets []string
	texts   []*transcript
	answers transcript
}

var seen witness

// newSecret makes a secret or token that is to be seen nowhere.
func newSecret() string { return seen.keep("secret-" + rand.Text()) }

// newStandardSecret makes one of Standard Webhooks.
func newStandardSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return "whsec_" + seen.keep(base64.StdEncoding.EncodeToString(key))
}

func (w *witness) keep(secret string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, secret)
	return secret
}

func (w *witness) newTranscript() *transcript {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := &transcript{}
	w.texts = append(w.texts, text)
	return text
}

// verdict is an error when a secret was let out. The control: it would find each in a text that ends with it.
func (w *witness) verdict() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := append([]*transcript{&w.answers}, w.texts...)
	for i, secret := range w.secrets {
		var control transcript
		_, _ = control.Write([]byte(`{"error":"key ` + secret))
		if !control.has(secret) {
			return fmt.Errorf("the check for secrets does not find the %d. of them in a text that has it", i+1)
		}
		for _, text := range texts {
			if text.has(secret) {
				return fmt.Errorf("the %d. secret was let out:\n%s", i+1, strings.ReplaceAll(text.lineWith(secret), secret, "<THE SECRET>"))
			}
		}
	}
	return nil
}

// transcript is text that grows.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

// Write adds text.
func (o *transcript) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, text...)
	return len(text), nil
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

func (o *transcript) has(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.text, []byte(text))
}

// lines are the lines that are complete.
func (o *transcript) lines() []string {
	lines := strings.Split(o.String(), "\n")
	return lines[:len(lines)-1]
}

// lineWith is the first line that has text, empty when there is none.
func (o *transcript) lineWith(text string) string {
	for line := range strings.SplitSeq(o.String(), "\n") {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// count is how often text stands in it.
func (o *transcript) count(text string) int { return strings.Count(o.String(), text) }
