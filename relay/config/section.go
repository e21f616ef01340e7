package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"realtorbot-relay/relay/match"
	"realtorbot-relay/sign"
)

// section is a table of the file, or an array of tables.
type section struct {
	name    string // "" for the keys before any table
	about   string
	list    bool // [[name]], whose elements are known by their names
	restart bool // read at the start and never again; what the others say follows a reload
	keys    []key
	field   int // of Config
}

// key is one key of a section: what may stand there, and what it means.
type key struct {
	name    string
	kind    kind
	normal  any    // the default, in the types that the toml library gives; nil when there is none
	needed  string // what to write when it is missing; empty for a key that may be left out
	example any    // what config.example.toml has in place of the default
	about   string // what it means, with what its kind does not say of it; for the example, the manual and editors
	field   []int  // of the section's struct
	shared  bool   // a key of [delivery] that [[endpoint]] has too
}

// kind is how the value of a key is read, and what can be said about it without reading it.
type kind struct {
	// read takes the file's value for the field behind into, or tells t what is wrong with it and leaves the field.
	read   func(t *table, key string, value, into any)
	schema schema
	bounds string // in words; empty when the type says it all
	secret bool   // may be written by reference; it is never shown
}

// bind finds the field of each key, and gives [[endpoint]] the keys of [delivery].
func bind(sections []section) []section {
	for i := range sections {
		s := &sections[i]
		structure := reflect.TypeFor[Config]()
		if s.name != "" {
			s.field = fieldOf(structure, s.name, s.name+"s")
			structure = structure.Field(s.field).Type
		}
		if s.list {
			structure = structure.Elem()
		}
		for j := range s.keys {
			k := &s.keys[j]
			k.field = []int{fieldOf(structure, k.name)}
			if whole, ok := k.normal.(int); ok {
				k.normal = int64(whole)
			}
		}
		if s.name != "endpoint" {
			continue
		}
		delivery := fieldOf(structure, "delivery")
		for _, k := range sections[i-1].keys {
			k.field, k.shared = append([]int{delivery}, k.field...), true
			s.keys = append(s.keys, k)
		}
	}
	return sections
}

// fieldOf is the field that has one of these names in the file. A key without a field is a mistake of this package.
func fieldOf(structure reflect.Type, names ...string) int {
	for i := range structure.NumField() {
		if slices.Contains(names, snake(structure.Field(i).Name)) {
			return i
		}
	}
	panic(fmt.Sprintf("config: %v has no field for %s", structure, names[0]))
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

func sectionOf(name string) *section {
	return &sections[slices.IndexFunc(sections, func(s section) bool { return s.name == name })]
}

// of is the section's part of a configuration: a struct or, of a list, a slice of them.
func (s *section) of(c *Config) reflect.Value {
	if s.name == "" {
		return reflect.ValueOf(c).Elem()
	}
	return reflect.ValueOf(c).Elem().Field(s.field)
}

// in is a pointer to the section's struct in a configuration.
func (s *section) in(c *Config) any { return s.of(c).Addr().Interface() }

// preset gives a section's struct the defaults of its own keys.
func (s *section) preset(into any) {
	t := &table{reader: &reader{}}
	for _, k := range s.keys {
		if k.normal != nil && !k.shared {
			k.kind.read(t, k.name, k.normal, k.in(into))
		}
	}
}

// read fills a section's struct, which has its defaults, from a table of the file. It reports each key that can't be used, that
// is missing or that is unknown.
func (s *section) read(t *table, into any) {
	s.fill(t, into)
	t.rest(s.keyNames())
}

func (s *section) keyNames() []string { return each(s.keys, keyName) }

// fill is read where other keys may stand, too.
func (s *section) fill(t *table, into any) {
	for _, k := range s.keys {
		if value, ok := t.values[k.name]; ok {
			k.kind.read(t, k.name, value, k.in(into))
		} else if k.needed != "" {
			t.fault(k.name, "is missing: write %s", k.needed)
		}
	}
}

// in is a pointer to the key's field of the section's struct behind into.
func (k *key) in(into any) any {
	return reflect.ValueOf(into).Elem().FieldByIndex(k.field).Addr().Interface()
}

// shown is a field's value in the spelling of the file, with stars for what is secret.
func shown(value any) any {
	switch value := value.(type) {
	case time.Duration:
		return formatDuration(value)
	case int64: // every number of bytes is one, and nothing else
		return formatSize(value)
	case []time.Duration:
		return each(value, formatDuration)
	case []netip.Prefix:
		return each(value, netip.Prefix.String)
	case map[string]sign.Secret:
		texts := map[string]string{}
		for name, secret := range value {
			texts[name] = secret.String()
		}
		return texts
	case match.Rule:
		return value // which knows the file's spelling
	case fmt.Stringer:
		return value.String()
	}
	return value
}

func each[T any](values []T, text func(T) string) []string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = text(value)
	}
	return texts
}

// Masked is the endpoint's configuration, but for its name, as it may be shown: a JSON object of the keys and spellings of the
// file, with stars for secrets, for what may be one in the URL and for what a proxy asks for.
func (e *Endpoint) Masked() json.RawMessage {
	var b bytes.Buffer
	for i, k := range sectionOf("endpoint").keys[1:] {
		value, err := json.Marshal(shown(reflect.ValueOf(e).Elem().FieldByIndex(k.field).Interface()))
		if err != nil {
			panic(err) // texts, numbers and booleans can be written
		}
		fmt.Fprintf(&b, "%s%q:%s", ifElse(i == 0, "{", ","), k.name, value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
