package endtoend

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"realtorbot-relay/scripts/needed"
)

// The events of Realtor Bot's documentation.
const (
	leadCreated          = `{"id":"evt_abc123","type":"lead.created","timestamp":"2024-01-15T10:30:00Z","data":{"leadId":"lead_xyz789","firstName":"John","lastName":"Doe","email":"john@example.com","phone":"+1234567890","source":"website_form","score":75}}`
	appointmentScheduled = `{"id":"evt_def456","type":"appointment.scheduled","timestamp":"2024-01-15T11:00:00Z","data":{"appointmentId":"appt_123","contactId":"contact_456","propertyId":"prop_789","date":"2024-01-20","time":"14:00","duration":60,"type":"showing"}}`
)

// exampleConfig is config.example.toml with other ports: another program may have its own. Nothing else is changed.
func exampleConfig(t *testing.T, listen string) string {
	t.Helper()
	text, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for port, instead := range map[string]string{"127.0.0.1:8080": "127.0.0.1:0", "127.0.0.1:8081": "127.0.0.1:0", "127.0.0.1:3000": listen} {
		if n := strings.Count(config, port); n != 1 {
			t.Fatalf("config.example.toml names %s %d times, want once", port, n)
		}
		config = strings.Replace(config, port, instead, 1)
	}
	return config
}

// exampleSecret is the one that the example's own comment tells to start listen with.
const exampleSecret = "example-secret-change-me"

func TestTheExampleDeliversTheDocumentedEventsOnceAndSigned(t *testing.T) {
	t.Parallel()
	listen := launch(t, command(t.TempDir(), "listen", "-addr", "127.0.0.1:0", "-secret", exampleSecret))
	var address []string
	eventually(t, "listen says where it listens", func() bool {
		address = regexp.MustCompile(`listening on (\S+), `).FindStringSubmatch(listen.stdout.String())
		return address != nil
	})
	r := start(t, exampleConfig(t, address[1]))

	documented := map[string]string{"evt_abc123": leadCreated, "evt_def456": appointmentScheduled}
	for id, body := range documented {
		if a := r.post(body); strings.TrimSpace(a.body) != `{"id":"`+id+`","status":"accepted","endpoints":1}` {
			t.Errorf("the first post of %s is answered %s", id, a.body)
		}
	}
	for id := range documented {
		r.awaitState(id, "crm", "delivered")
	}
	for id, body := range documented {
		if a := r.post(body); strings.TrimSpace(a.body) != `{"id":"`+id+`","status":"duplicate"}` {
			t.Errorf("the second post of %s is answered %s", id, a.body)
		}
	}

	// All that was accepted is settled, with one attempt each: so nothing more will arrive.
	ep := r.endpoint("crm")
	if ep.Delivered != 2 || ep.Attempts != 2 || ep.Pending+ep.Retrying+ep.Failed != 0 {
		t.Errorf("the endpoint stands at %+v, want 2 delivered with 2 attempts", ep)
	}
	if s := r.stats(); s.Totals.Accepted != 2 || s.Totals.Duplicates != 2 || s.Health.Status != "ok" {
		t.Errorf("stats: %+v", s)
	}
	// listen prints in one piece before it answers.
	for id := range documented {
		line := listen.stdout.lineWith(id + "  attempt 1  ")
		if !strings.HasSuffix(line, "signed ✓ realtorbot") || listen.stdout.count(id+"  attempt") != 1 {
			t.Errorf("listen says of %s: %q", id, line)
		}
	}
}

// TestTheDocumentedReceiverAgreesOnEveryNotation runs the receiver of the documentation, which hashes
// JSON.stringify(req.body), in real Node.
func TestTheDocumentedReceiverAgreesOnEveryNotation(t *testing.T) {
	t.Parallel()
	const script = "../try/testdata/receivers/receiver.js"
	if _, err := os.ReadFile(script); err != nil { // go test sees by this that it matters
		t.Fatal(err)
	}
	secret := newSecret()
	cmd := exec.Command(needed.Program(t, "node"), script)
	cmd.Env = append(os.Environ(), "PORT=0", "SECRET="+secret)
	node := launch(t, cmd)
	var port []string
	eventually(t, "Node listens", func() bool {
		port = regexp.MustCompile(`listening on (\d+)\n`).FindStringSubmatch(node.stdout.String())
		return port != nil
	})
	r := start(t, preamble+endpoint("node", "http://127.0.0.1:"+port[1]+"/webhooks/realtorbot", `secret = "`+secret+`"`))

	posts := map[string]string{
		"pretty":    "{\n  \"id\": \"pretty\",\r\n\t\"type\": \"lead.created\",\n  \"data\": { \"a\": [ 1, 2 ], \"b\": { } }\n}\n",
		"escapes":   `{"id":"escapes","type":"lead.created","data":{"name":"Ren\u00e9","url":"https:\/\/example.com\/","smile":"\ud83d\ude00","line":"\u2028","control":"\u0001\u001f\b\f","delete":"\u007f","angle":"\u003c&\u003e"}}`,
		"utf8":      `{"id":"utf8","type":"lead.created","data":{"name":"Zoë 東京 🏠","e\u0301":"é"}}`,
		"numbers":   `{"id":"numbers","type":"lead.created","data":{"n":[1.0,1e3,-0,-0.0,40.712775999999998,1E-7,123e-20,1e21,0.1,5e-324,9007199254740991]}}`,
		"indexes":   `{"id":"indexes","type":"lead.created","data":{"b":1,"10":2,"9":3,"a":4,"01":5,"4294967294":6,"4294967295":7,"-1":8,"0":9}}`,
		"first":     `{"7":true,"data":{},"type":"lead.created","id":"first","0":null}`,
		"members":   `{"data":{"__proto__":{"a":1},"constructor":[],"":null},"extra":[[],{}],"id":"members","type":"test"}`,
		"documents": strings.Replace(leadCreated, "evt_abc123", "documents", 1),
	}
	for _, body := range posts {
		r.post(body)
	}
	batch := "[" + strings.ReplaceAll(posts["numbers"], `"id":"numbers"`, `"id":"batched"`) + ", " + strings.ReplaceAll(posts["indexes"], `"id":"indexes"`, `"id":"batched_2"`) + "]"
	r.post(batch)
	for _, id := range []string{"batched", "batched_2"} {
		posts[id] = batch
	}
	for id, body := range posts {
		eventually(t, "Node says something of "+id, func() bool { return node.stdout.has("ok "+id+"\n") || node.stdout.has("bad\n") })
		if node.stdout.has("bad\n") {
			t.Fatalf("Node does not agree; the last waited for was %s", body)
		}
	}
}
