package config

import (
	"reflect"
	"strings"
)

// Change is one difference between two configurations. It names what differs and shows no value, so it holds no secret.
type Change struct {
	Section      string   `json:"section"`                 // as the file has it: server, source, endpoint, … or include
	Name         string   `json:"name,omitempty"`          // of the source or endpoint
	File         string   `json:"file,omitempty"`          // the included file that it is in, or was
	Change       string   `json:"change"`                  // Added, Removed or Changed
	Keys         []string `json:"keys,omitempty"`          // of what was changed: which keys, in the order of the manual
	NeedsRestart bool     `json:"needs_restart,omitempty"` // a running relay can't apply it
	Means        string   `json:"means,omitempty"`         // for what is queued; filled in by whoever knows that
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
	if c.File != "" {
		b.WriteString(" in " + c.File)
	}
	if len(c.Keys) > 0 {
		b.WriteString(" (" + strings.Join(c.Keys, ", ") + ")")
	}
	if c.NeedsRestart {
		b.WriteString(", needs a restart")
	}
	if c.Means != "" {
		b.WriteString(": " + c.Means)
	}
	return b.String()
}

// Diff says how now differs from old, section by section in the order of the manual. What [delivery] says is part of
// every endpoint and is told there.
func Diff(old, now *Config) (changes []Change) {
	for i := range sections {
		s := &sections[i]
		before, after := s.of(old), s.of(now)
		switch {
		case s.list:
			for _, change := range s.diffList(before, after) {
				from := ifElse(change.Change == Removed, old, now)
				change.File = from.Included.fileOf(s.name, change.Name)
				changes = append(changes, change)
			}
		case s.name != "delivery":
			if keys := s.changed(before, after); len(keys) > 0 && s.name == "" {
				for _, k := range keys {
					changes = append(changes, Change{Section: k.name, Change: Changed})
				}
			} else if len(keys) > 0 {
				changes = append(changes, Change{Section: s.name, Change: Changed, Keys: each(keys, keyName), NeedsRestart: s.restart})
			}
		}
	}
	return changes
}

// diffList compares lists whose elements are known by their names.
func (s *section) diffList(old, now reflect.Value) (changes []Change) {
	name := func(list reflect.Value, i int) string { return list.Index(i).FieldByName("Name").String() }
	byName := func(list reflect.Value) map[string]int {
		at := map[string]int{}
		for i := range list.Len() {
			at[name(list, i)] = i
		}
		return at
	}
	before, after := byName(old), byName(now)
	for i := range old.Len() {
		if _, stays := after[name(old, i)]; !stays {
			changes = append(changes, Change{Section: s.name, Name: name(old, i), Change: Removed})
		}
	}
	for i := range now.Len() {
		if at, was := before[name(now, i)]; !was {
			changes = append(changes, Change{Section: s.name, Name: name(now, i), Change: Added})
		} else if keys := s.changed(old.Index(at), now.Index(i)); len(keys) > 0 {
			changes = append(changes, Change{Section: s.name, Name: name(now, i), Change: Changed, Keys: each(keys, keyName)})
		}
	}
	return changes
}

// changed are the keys in which two structs of the section differ.
func (s *section) changed(old, now reflect.Value) (keys []key) {
	if s.list && old.CanAddr() && now.CanAddr() && reflect.DeepEqual(old.Addr().Interface(), now.Addr().Interface()) {
		return nil // nearly all of thousands
	}
	for _, k := range s.keys {
		if !reflect.DeepEqual(old.FieldByIndex(k.field).Interface(), now.FieldByIndex(k.field).Interface()) {
			keys = append(keys, k)
		}
	}
	return keys
}

func keyName(k key) string { return k.name }
