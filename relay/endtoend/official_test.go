package endtoend

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"realtorbot-relay/scripts/needed"
)

// signed is one thing for the official libraries of Standard Webhooks to judge, or without a Signature to sign.
type signed struct {
	Secret    string `json:"secret"`
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Signature string `json:"signature"`
	Body      string `json:"body"`
}

// verifiers are the official libraries, by name. Each says, in order, "ok" or why it refuses.
var verifiers = map[string]func(*testing.T, []signed) []string{
	"Go": func(t *testing.T, list []signed) (said []string) {
		for _, s := range list {
			webhook, err := standardwebhooks.NewWebhook(s.Secret)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			header.Set("webhook-id", s.ID)
			header.Set("webhook-timestamp", s.Timestamp)
			header.Set("webhook-signature", s.Signature)
			if err := webhook.Verify([]byte(s.Body), header); err != nil {
				said = append(said, err.Error())
			} else {
				said = append(said, "ok")
			}
		}
		return said
	},
	"npm": askNode,
}

// signers are the official libraries as the senders have them.
var signers = map[string]func(*testing.T, []signed) []string{
	"Go": func(t *testing.T, list []signed) (signatures []string) {
		for _, s := range list {
			webhook, err := standardwebhooks.NewWebhook(s.Secret)
			if err != nil {
				t.Fatal(err)
			}
			unix, err := strconv.ParseInt(s.Timestamp, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := webhook.Sign(s.ID, time.Unix(unix, 0), []byte(s.Body))
			if err != nil {
				t.Fatal(err)
			}
			signatures = append(signatures, signature)
		}
		return signatures
	},
	"npm": askNode,
}

// askNode has the official npm package judge or sign.
func askNode(t *testing.T, list []signed) (said []string) {
	t.Helper()
	needed.Program(t, "npm")
	dir, err := officialPackage()
	if err != nil {
		t.Fatal(err)
	}
	question, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command(needed.Program(t, "node"), filepath.Join(dir, "oracle.js"))
	node.Stdin = bytes.NewReader(question)
	node.Stderr = os.Stderr
	answer, err := node.Output()
	if err != nil {
		t.Fatalf("ask node: %v", err)
	}
	if err := json.Unmarshal(answer, &said); err != nil || len(said) != len(list) {
		t.Fatalf("node said %q: %v", answer, err)
	}
	return said
}

// officialPackage is a directory with the npm package, at the version and with the checksums of testdata. It is installed
// once, into the user's cache, and outside the checkout.
var officialPackage = sync.OnceValues(func() (dir string, err error) {
	const source = "testdata/standardwebhooks"
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "realtorbot-relay-test")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh) // what has become dir is there no more
	version := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "oracle.js"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		version.Write(text)
		if err := os.WriteFile(filepath.Join(fresh, name), text, 0o644); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(cache, fmt.Sprintf("standardwebhooks-%x", version.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm (which comes with Node.js) must install standardwebhooks once, which needs its registry: %w\n%s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) { // another run may have been faster
		return "", err
	}
	return dir, nil
})

func TestOfficialLibrariesAcceptWhatIsSent(t *testing.T) {
	t.Parallel()
	current, previous, other := newStandardSecret(), newStandardSecret(), newStandardSecret()
	crm := receive(t, well)
	r := start(t, preamble+endpoint("crm", crm.url, `signatures = ["standard", "realtorbot"]`,
		fmt.Sprintf("secret = %q\nprevious_secret = %q", current, previous)))
	const events = 50
	for i := range events {
		r.post(fmt.Sprintf(`{"id":"evt_%d","type":"lead.created","data":{"name":"Zoë 🏠 \u2028 <&>","price":%d.50,"more":"%0*d"}}`, i, i, i*40, i))
	}
	var right, wrong []signed
	for _, a := range crm.await(events) {
		s := signed{ID: a.id, Timestamp: a.header.Get("webhook-timestamp"), Signature: a.header.Get("webhook-signature"), Body: a.body}
		with := func(secret string) signed { s.Secret = secret; return s }
		right = append(right, with(current), with(previous))
		wrong = append(wrong, with(other))
		s.Body += " "
		wrong = append(wrong, with(current), with(previous))
	}
	for name, verify := range verifiers {
		for i, said := range verify(t, right) {
			if said != "ok" {
				t.Errorf("%s says %q of %+v", name, said, right[i])
			}
		}
		for i, said := range verify(t, wrong) {
			if said == "ok" {
				t.Errorf("%s accepts another secret or body: %+v", name, wrong[i])
			}
		}
	}
}

func TestWhatOfficialLibrariesSignIsAccepted(t *testing.T) {
	t.Parallel()
	secret, previous, other := newStandardSecret(), newStandardSecret(), newStandardSecret()
	r := start(t, preamble+quiet()+fmt.Sprintf("[[source]]\nname = \"edge\"\npath = \"/edge\"\nscheme = \"standard\"\nsecret = %q\nprevious_secret = %q\n", secret, previous))
	for name, sign := range signers {
		var list []signed
		for i := range 20 {
			s := signed{Secret: secret, ID: fmt.Sprintf("msg_%s_%d", name, i), Timestamp: strconv.FormatInt(time.Now().Unix(), 10)}
			s.Body = fmt.Sprintf("{\n  \"id\": \"evt_%s_%d\", \"type\": \"test\", \"data\": {\"name\": \"Zoë 🏠\", \"price\": %d.50}\n}", name, i, i)
			switch i % 4 {
			case 2:
				s.Secret = previous
			case 3:
				s.Secret = other // the control
			}
			list = append(list, s)
		}
		for i, signature := range sign(t, list) {
			a := r.intake.ask(t, "POST", "/edge", list[i].Body, "Content-Type", "application/json",
				"webhook-id", list[i].ID, "webhook-timestamp", list[i].Timestamp, "webhook-signature", signature)
			if want := map[bool]int{true: 200, false: 401}[list[i].Secret != other]; a.status != want {
				t.Errorf("%s: event %d is answered %d %s, want %d", name, i, a.status, a.body, want)
			}
		}
	}
}
