package endtoend

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// witness keeps all that relay processes let out, and the secrets that they were given. Of answers it keeps the latest: a test that
// asks all the time gets gigabytes of them, and a secret that was made later can't stand in what is looked through by then.
type witness struct {
	mu      sync.Mutex
	secrets []string
	texts   []*transcript
	answers transcript
	found   error // in answers that are not kept any more
}

const answersKept = 4 << 20 // bytes

// hear takes an answer.
func (w *witness) hear(header http.Header, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = header.Write(&w.answers)
	_, _ = w.answers.Write(text)
	if len(w.answers.text) > answersKept {
		if w.found == nil {
			w.found = w.verdictLocked([]*transcript{&w.answers})
		}
		w.answers.text = w.answers.text[:0]
	}
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
	if w.found != nil {
		return w.found
	}
	return w.verdictLocked(append([]*transcript{&w.answers}, w.texts...))
}

func (w *witness) verdictLocked(texts []*transcript) error {
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

func TestASecretIsFoundInAnswersThatAreNotKept(t *testing.T) {
	t.Parallel()
	for _, let := range []bool{false, true} {
		var w witness
		secret, text := w.keep("secret-that-is-let-out"), "nothing"
		if let {
			text = "the key is " + secret
		}
		w.hear(nil, []byte(text))
		for range 2 {
			w.hear(nil, make([]byte, answersKept))
		}
		if len(w.answers.text) > answersKept {
			t.Errorf("%d bytes are kept", len(w.answers.text))
		}
		if found := w.verdict() != nil; found != let {
			t.Errorf("let out %v, found %v", let, found)
		}
	}
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
