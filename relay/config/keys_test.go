package config

import (
	"reflect"
	"testing"
)

// A field without a row would be read by nobody; a row without a field ends the program at its start (bind).
func TestEveryFieldHasItsKey(t *testing.T) {
	for i := range sections {
		s := &sections[i]
		structure := s.of(new(Config)).Type()
		if s.list {
			structure = structure.Elem()
		}
		filled := map[string]string{}
		for _, k := range s.keys {
			field := structure.FieldByIndex(k.field)
			if other, twice := filled[field.Name]; twice {
				t.Errorf("%s and %s of [%s] fill one field", k.name, other, s.name)
			}
			filled[field.Name] = k.name
		}
		for _, field := range reflect.VisibleFields(structure) {
			if s.name != "" && filled[field.Name] == "" && field.Type != reflect.TypeFor[Delivery]() {
				t.Errorf("no key of [%s] fills %s", s.name, field.Name)
			}
		}
	}
}

func TestEveryDefaultIsWhatItsKeyMayBe(t *testing.T) {
	compared := 0
	for i := range sections {
		s := &sections[i]
		structure := s.of(new(Config)).Type()
		if s.list {
			structure = structure.Elem()
		}
		for _, k := range s.keys {
			if k.normal == nil {
				continue
			}
			compared++
			r := &reader{}
			k.kind.read(&table{reader: r, name: s.name}, k.name, k.normal, k.in(reflect.New(structure).Interface()))
			if len(r.faults)+len(r.odd) > 0 {
				t.Errorf("the default of %s.%s is refused: %v %v", s.name, k.name, r.faults, r.odd)
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d keys have a default", compared)
	}
}
