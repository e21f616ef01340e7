package config

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Change is one difference between two configurations. It names what differs and shows no value, so it holds no secret.
type Change struct {
	Section    string   `json:"section"`                 // as the file has it: server, source, endpoint, …
	Name       string   `json:"name,omitempty"`          // of the source or endpoint
	Change     string   `json:"change"`                  // Added, Removed or Changed
	Keys       []string `json:"keys,omitempty"`          // of what was changed: which keys, in the order of the manual
	NeedsStart bool     `json:"needs_restart,omitempty"` // a running relay can't apply it
	Means      string   `json:"means,omitempty"`         // for what is queued; filled in by whoever knows that
}

// What happened to a part of the configuration.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// String is the change on one line.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Section)
	if c.Name != "" {
		b.WriteString(" " + c.Name)
	}
	b.WriteString(" " + c.Change)
	if len(c.Keys) > 0 {
		b.WriteString(" (" + strings.Join(c.Keys, ", ") + ")")
	}
	if c.NeedsStart {
		b.WriteString(", with the next start only")
	}
	if c.Means != "" {
		b.WriteString(": " + c.Means)
	}
	return b.String()
}

// Diff says how now differs from old, section by section in the order of the manual. What [delivery] says is part of
// every endpoint and is told there.
func Diff(old, now *Config) (changes []Change) {
	before, after := reflect.ValueOf(*old), reflect.ValueOf(*now)
	for i := range before.NumField() {
		field := before.Type().Field(i)
		if field.Type.Kind() != reflect.Struct || field.Type == reflect.TypeFor[Delivery]() {
			continue
		}
		if keys := changedKeys(before.Field(i), after.Field(i)); len(keys) > 0 {
			section := snake(field.Name)
			changes = append(changes, Change{Section: section, Change: Changed, Keys: keys, NeedsStart: slices.Contains(fixed, section)})
		}
	}
	changes = append(changes, diffNamed("source", old.Sources, now.Sources, func(s *Source) string { return s.Name })...)
	return append(changes, diffNamed("endpoint", old.Endpoints, now.Endpoints, func(e *Endpoint) string { return e.Name })...)
}

// fixed are the sections that are read at the start and never again.
var fixed = []string{"server", "admin", "queue", "log"}

// diffNamed compares lists whose elements are known by their names.
func diffNamed[T any](section string, old, now []T, name func(*T) string) (changes []Change) {
	find := func(list []T, wanted string) *T {
		for i := range list {
			if name(&list[i]) == wanted {
				return &list[i]
			}
		}
		return nil
	}
	for i := range old {
		if find(now, name(&old[i])) == nil {
			changes = append(changes, Change{Section: section, Name: name(&old[i]), Change: Removed})
		}
	}
	for i := range now {
		before := find(old, name(&now[i]))
		if before == nil {
			changes = append(changes, Change{Section: section, Name: name(&now[i]), Change: Added})
			continue
		}
		if keys := changedKeys(reflect.ValueOf(*before), reflect.ValueOf(now[i])); len(keys) > 0 {
			changes = append(changes, Change{Section: section, Name: name(&now[i]), Change: Changed, Keys: keys})
		}
	}
	return changes
}

// changedKeys names the fields in which two structs of one type differ, as the file spells them. An endpoint's delivery
// counts as so many keys of its own.
func changedKeys(old, now reflect.Value) (keys []string) {
	for i := range old.NumField() {
		field := old.Type().Field(i)
		switch {
		case field.Type == reflect.TypeFor[Delivery]():
			keys = append(keys, changedKeys(old.Field(i), now.Field(i))...)
		case !reflect.DeepEqual(old.Field(i).Interface(), now.Field(i).Interface()):
			keys = append(keys, snake(field.Name))
		}
	}
	return keys
}

// snake is the file's spelling of a field's name: TLSCert is tls_cert.
func snake(field string) string {
	runes := []rune(field)
	var b strings.Builder
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
