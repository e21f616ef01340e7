package sign

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
)

const plain = "correct-horse-battery-staple"

// hex and decimal renderings of the first bytes, for verbs that would print a string as such.
var leaks = []string{plain, "correct", "636f7272", "636F7272", "99 111 114 114", "0x63, 0x6f"}

func TestSecretNeverPrints(t *testing.T) {
	secret := NewSecret(plain)
	key, err := ParseStandardKey(NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner([]string{SchemeRealtorBot}, secret, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	type inner struct{ hidden Secret }
	type outer struct {
		Shown  Secret
		hidden *Secret
		Deep   *inner
		list   []Secret
		table  map[string]Secret
		any    any
		array  [1]inner
	}
	nested := outer{secret, &secret, &inner{secret}, []Secret{secret}, map[string]Secret{"k": secret}, secret, [1]inner{{secret}}}

	values := map[string]any{
		"value": secret, "pointer": &secret, "struct": nested, "pointer to struct": &nested, "unexported": inner{secret},
		"slice": []Secret{secret}, "map": map[string]Secret{"k": secret}, "interface": []any{secret, &nested},
		"standard key": key, "signer": signer, "signer value": *signer,
	}
	forbidden := append([]string{key.Reveal(), "MfKQ9r8G"}, leaks...)
	for name, value := range values {
		// Every verb, with flags, known or not: an unknown one makes fmt print the fields as they are.
		for verb := byte('!'); verb <= '~'; verb++ {
			for _, flags := range []string{"", "+", "#", "-40", ".3", " ", "#x ", "0"} {
				text := fmt.Sprintf("%"+flags+string(verb), value)
				for _, leak := range forbidden {
					if strings.Contains(text, leak) {
						t.Errorf("%s with %%%s%c shows the secret: %s", name, flags, verb, text)
					}
				}
			}
		}
		wrapped := fmt.Errorf("wrap %v: %w", value, errors.ErrUnsupported).Error()
		encoded, _ := json.Marshal(value)
		marked, _ := xml.Marshal(value)
		var logged bytes.Buffer
		log.New(&logged, "", 0).Println(value)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "value", value)
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "value", value)
		for _, text := range []string{wrapped, string(encoded), string(marked), logged.String()} {
			for _, leak := range forbidden {
				if strings.Contains(text, leak) {
					t.Errorf("%s shows the secret: %s", name, text)
				}
			}
		}
	}
}

func TestSecretShowsWhetherItIsSet(t *testing.T) {
	encoded, err := json.Marshal(map[string]Secret{"empty": {}, "set": NewSecret(plain)})
	if want := `{"empty":"","set":"********"}`; err != nil || string(encoded) != want {
		t.Errorf("json = %s, %v; want %s", encoded, err, want)
	}
}

func TestSecretAdmits(t *testing.T) {
	for _, c := range []struct {
		secret, presented string
		want              bool
	}{
		{plain, plain, true},
		{plain, plain + "x", false},
		{plain, plain[1:], false},
		{plain, "", false},
		{"", "", false}, // no secret is configured: nobody gets in by presenting none
		{"", plain, false},
	} {
		if got := NewSecret(c.secret).Admits([]byte(c.presented)); got != c.want {
			t.Errorf("NewSecret(%q).Admits(%q) = %v", c.secret, c.presented, got)
		}
	}
	if !NewSecret(plain).Equal(NewSecret(plain)) || NewSecret(plain).Equal(Secret{}) || !NewSecret("").Equal(Secret{}) {
		t.Error("Equal doesn't compare texts")
	}
	if !NewSecret("").IsZero() || NewSecret("x").IsZero() || NewSecret(plain).Len() != len(plain) {
		t.Error("IsZero or Len is wrong")
	}
}
