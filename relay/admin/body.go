package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/canonical"
)

// member is a member that a posted object may have.
type member struct {
	name string
	into any    // a pointer
	kind string // what it must be, in words
}

// texts is a text, or a list of them.
type texts []string

// UnmarshalJSON takes both forms.
func (t *texts) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]string)(t))
	}
	var one string
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*t = texts{one}
	return nil
}

// readObject reads a body that is one JSON object with members of these names, in that case. It returns what is wrong, in the
// intake's words where it is no JSON, or "".
func readObject(body []byte, example string, known []member) (wrong string) {
	var p canonical.Parser
	text, err := p.Canonical(body)
	if err != nil {
		return "the body must be an object such as " + example + ": " + err.Error()
	}
	var given map[string]json.RawMessage
	if json.Unmarshal(text, &given) != nil || given == nil {
		return "the body must be an object such as " + example
	}
	names := make([]string, len(known))
	for i, m := range known {
		names[i] = m.name
		if raw, ok := given[m.name]; ok && json.Unmarshal(raw, m.into) != nil {
			return fmt.Sprintf("%q must be %s", m.name, m.kind)
		}
		delete(given, m.name)
	}
	if unknown := slices.Sorted(maps.Keys(given)); len(unknown) > 0 {
		return fmt.Sprintf("there is no %.64q here: there are %s", unknown[0], listed(names))
	}
	return ""
}

// whyNot says to a client why something could not be done: what there is too little of, or else that the log, in which the
// rest of the error is, says why.
func whyNot(what string, err error) string {
	var lack *queue.Shortage
	if errors.As(err, &lack) {
		return what + ": " + lack.Error()
	}
	return what + "; the log says why"
}
