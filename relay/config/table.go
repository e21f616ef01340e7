package config

import (
	"fmt"
	"maps"
	"slices"
)

// reader collects what is wrong, and what is merely odd, while one file is read.
type reader struct {
	file     string
	lines    *textLines
	secrets  Resolver
	faults   Faults
	odd      Faults   // becomes Config.Warnings
	literals int      // secrets that stand in the file itself
	included bool     // by another file
	volatile bool     // the same text may mean something else the next time: it names files or credentials
	outside  bool     // the file is read by somebody who may not have what the relay has
	absent   Faults   // then, the secrets that could not be had
	types    []string // what a subscription may name, once [events] was read
}

// table is one table of the file while it is read. A key that can't be used keeps its default, so that reading goes on and finds
// the other faults too.
type table struct {
	*reader
	at     place
	name   string // for faults: "endpoint.crm"; "" for the root
	values map[string]any
	taken  map[[2]string]place // shared by the elements of a list: where a key has a value that none may share
}

// fault reports a key of the table, or the table itself for the key "".
func (t *table) fault(key, format string, args ...any) {
	t.faultAt(t.place(key), spell(key), format, args...)
}

// faultAt is fault for something inside a key, such as an element of its list, which label names.
func (t *table) faultAt(at place, label, format string, args ...any) {
	t.faults = append(t.faults, t.remark(at, label, format, args...))
}

// lacks reports a secret that can't be had.
func (t *table) lacks(key string, err error) {
	if t.outside {
		t.absent = append(t.absent, t.remark(t.place(key), spell(key), "%s", err))
		return
	}
	t.fault(key, "%s", err)
}

func (t *table) warn(key, format string, args ...any) {
	t.odd = append(t.odd, t.remark(t.place(key), spell(key), format, args...))
}

func (t *table) remark(at place, label, format string, args ...any) Fault {
	return Fault{File: t.file, Line: t.lines.all().find(at), Key: t.label(label), Text: fmt.Sprintf(format, args...)}
}

func (t *table) place(key string) place {
	if key == "" {
		return t.at
	}
	return t.at.key(key)
}

func (t *table) label(key string) string {
	if t.name == "" || key == "" {
		return t.name + key
	}
	return t.name + "." + key
}

// has reports whether the file has the key.
func (t *table) has(key string) bool {
	_, ok := t.values[key]
	return ok
}

// named reports whether the file has the key with anything but an empty text, be it a value that can't be used or had.
func (t *table) named(key string) bool { return t.has(key) && t.values[key] != "" }

// twice notes that the key of this table has a value that no other of the list may have. If another has, first is its line.
func (t *table) twice(key, value string) (first int, twice bool) {
	at, twice := t.taken[[2]string{key, value}]
	if twice {
		return t.lines.all().find(at), true
	}
	t.taken[[2]string{key, value}] = t.place(key)
	return 0, false
}

// rest reports the keys that are not known.
func (t *table) rest(known []string) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(known, key) {
			t.faultAt(t.at.key(key), spell(key), "unknown key%s", suggest(key, known))
		}
	}
}

// sub is the table under a key of the root; empty if the file has none.
func (t *table) sub(key string) *table {
	sub := &table{reader: t.reader, at: t.at.key(key), name: key}
	var ok bool
	if sub.values, ok = t.values[key].(map[string]any); !ok && t.has(key) {
		t.fault(key, "must be one table: write [%s]", key)
	}
	return sub
}

// subs are the tables of the array of tables under a key of the root.
func (t *table) subs(key string) []*table {
	if !t.has(key) {
		return nil
	}
	elements, ok := list(t.values[key])
	if !ok {
		t.fault(key, "may be there several times: write [[%s]]", key)
		return nil
	}
	subs, taken := make([]*table, 0, len(elements)), map[[2]string]place{}
	for i, element := range elements {
		sub := &table{reader: t.reader, at: t.at.key(key).index(i), name: fmt.Sprintf("%s[%d]", key, i+1), taken: taken}
		if sub.values, ok = element.(map[string]any); !ok {
			sub.fault("", "must be a table: write [[%s]]", key)
			continue
		}
		subs = append(subs, sub)
	}
	return subs
}
