package config

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// wide is text in UTF-16, as Notepad and PowerShell's > save it.
func wide(text string, order binary.AppendByteOrder, mark bool) string {
	if mark {
		text = "\uFEFF" + text
	}
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return string(out)
}

func saved(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "saved")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What an editor adds to a file is no part of a secret or a certificate, and is not taken for one.
func TestAFileSavedInAnotherEncodingIsRefused(t *testing.T) {
	_, certificate, _ := secure(t)
	pem := string(mustRead(t, certificate))
	for _, c := range []struct {
		as   func(text string) string
		told string
	}{
		{func(text string) string { return "\uFEFF" + text }, "begins with a byte order mark"},
		{func(text string) string { return wide(text, binary.LittleEndian, true) }, "is in UTF-16"},
		{func(text string) string { return wide(text, binary.BigEndian, true) }, "is in UTF-16"},
		{func(text string) string { return wide(text, binary.LittleEndian, false) }, "is in UTF-16"},
		{func(text string) string { return wide(text, binary.BigEndian, false) }, "is in UTF-16"},
	} {
		secret, bundle := saved(t, c.as("a-secret-of-some-length\n")), saved(t, c.as(pem+pem))
		for key, text := range map[string]string{
			"endpoint.crm.secret":        endpointTable + "secret = \"file:" + secret + "\"\n",
			"endpoint.crm.url":           "[[endpoint]]\nname = \"crm\"\nevents = [\"*\"]\nsecret = \"a-secret-of-some-length\"\nurl = \"file:" + secret + "\"\n",
			"admin.token":                "[admin]\ntoken = \"file:" + secret + "\"\n",
			"endpoint.crm.headers.X-Key": endpointTable + "secret = \"a-secret-of-some-length\"\nheaders = { X-Key = \"file:" + secret + "\" }\n",
			"delivery.ca_file":           "[delivery]\nca_file = \"" + bundle + "\"\n",
			"server.tls_cert":            "[server]\ntls_cert = \"" + bundle + "\"\ntls_key = \"" + bundle + "\"\n",
			"endpoint.crm.client_cert":   endpointTable + "secret = \"a-secret-of-some-length\"\nclient_cert = \"" + bundle + "\"\nclient_key = \"" + bundle + "\"\n",
		} {
			_, err := Parse("c.toml", []byte(text), nil)
			if err == nil || !strings.Contains(err.Error(), key+": file ") || !strings.Contains(err.Error(), c.told) {
				t.Errorf("%s: %v; want that the file %s", key, err, c.told)
			}
		}
	}
}

const endpointTable = "[[endpoint]]\nname = \"crm\"\nurl = \"https://crm.example.com/\"\nevents = [\"*\"]\n"

// A character that nobody sees comes with copying. Where it can't be meant it is refused, in a key it is warned of; which
// one and where is told, and nothing else.
func TestWhatNobodySeesIsTold(t *testing.T) {
	for _, r := range []rune{0x200B, 0x200D, 0xFEFF, 0x00AD, 0x00A0, 0x202E, 0x2066, 0x2028, 0x0007} {
		odd := fmt.Sprintf("%U", r)
		value := "keykeykey" + string(r) + "keykeykey"
		env := func(string) (string, error) { return value, nil }
		c, err := Parse("c.toml", []byte(endpointTable+"secret = \"env:S\"\n"), env)
		if err != nil {
			t.Fatalf("%s: %v", odd, err)
		}
		if warned := strings.Join(c.Warnings, "\n"); !strings.Contains(warned, "endpoint.crm.secret: holds a character, "+odd+" at byte 10") || strings.Contains(warned, "key"+string(r)) || strings.Contains(warned, "keykey") {
			t.Errorf("%s in a secret: warned %q", odd, warned)
		}
		for key, text := range map[string]string{
			"admin.token":                "[admin]\ntoken = \"env:S\"\n",
			"endpoint.crm.headers.X-Key": endpointTable + "secret = \"a-secret-of-some-length\"\nheaders = { X-Key = \"env:S\" }\n",
			"delivery.proxy":             "[delivery]\nproxy = \"env:S\"\n",
		} {
			if _, err := Parse("c.toml", []byte(text), env); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), odd+" at byte 10") || strings.Contains(err.Error(), "keykey") {
				t.Errorf("%s in %s: %v", odd, key, err)
			}
		}
		at := func(string) (string, error) { return "https://crm.example.com/" + string(r), nil }
		_, err = Parse("c.toml", []byte("[[endpoint]]\nname = \"crm\"\nevents = [\"*\"]\nsecret = \"a-secret-of-some-length\"\nurl = \"env:U\"\n"), at)
		if err == nil || r > 0x7f && !strings.Contains(err.Error(), "endpoint.crm.url: must not hold "+odd+" at byte 25") {
			t.Errorf("%s in a url: %v", odd, err)
		}
	}
}

// Keys of other scripts, and bytes that are no text, are keys.
func TestAnUnusualSecretIsNotWarnedOf(t *testing.T) {
	for _, value := range []string{"пароль-из-многих-букв", "correct horse battery staple", "\xff\x80\xfe\xc1\xa0\xa1\xb2\xc3\xd4\xe5\xf6\x97\x88\x99\xaa\xbb", `it's "quoted" inside`} {
		c, err := Parse("c.toml", []byte(endpointTable+"secret = \"env:S\"\n"), func(string) (string, error) { return value, nil })
		if err != nil || len(c.Warnings) > 0 {
			t.Errorf("%q: %v, warned %q", value, err, c.Warnings)
		}
	}
}

func TestASecretInQuotesOfItsOwnIsWarnedOf(t *testing.T) {
	for _, value := range []string{`"a-secret-of-some-length"`, "'a-secret-of-some-length'", "“a-secret-of-some-length”", "„a-secret-of-some-length“"} {
		c, err := Parse("c.toml", []byte(endpointTable+"secret = \"env:S\"\n"), func(string) (string, error) { return value, nil })
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "quotes of its own") || strings.Contains(c.Warnings[0], "a-secret") {
			t.Errorf("%q: %v, warned %q", value, err, c.Warnings)
		}
	}
}

// What word processors, editors and other notations make of a file is told as what it is, and nothing of a value with it.
func TestAFileThatIsNoTOMLIsToldWhatToWrite(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"secret = “hunter2hunter2”", `c.toml:1: is not valid TOML: “ is no quote that TOML knows: write "straight ones"`},
		{"a = 1\nsecret = ‘hunter2hunter2’", `c.toml:2: is not valid TOML: ‘ is no quote that TOML knows`},
		{"secret = `hunter2hunter2`", "` is no quote that TOML knows"},
		{"“secret” = 1", "“ is no quote that TOML knows"},
		{`dir = "C:\hunter2"`, `a backslash in "…" begins an escape`},
		{`dir = "\xhunter2"`, `a backslash in "…" begins an escape`},
		{`dir = "\u12"`, `a backslash in "…" begins an escape`},
		{"secret = \u200b\"hunter2\"", "there is U+200B, which nobody sees: delete it"},
		{"secret\u00a0= \"hunter2\"", "there is U+00A0, which nobody sees"},
		{"secret = \"hunter2", "a quote that begins a text on this line has no end"},
		{"secret = \"hunter2\nhunter2\"", "a quote that begins a text on this line has no end"},
		{"secret = 'it's hunter2'", "there is more on this line than one key and its value"},
		{"secret = \"hunter2\xff\"", "this line is not in UTF-8"},
		{"secret = hunter2", "a text needs quotes"},
		{wide("secret = 'hunter2'", binary.LittleEndian, true), "is in UTF-16: save it as UTF-8"},
		{wide("secret = 'hunter2'", binary.BigEndian, false), "is in UTF-16: save it as UTF-8"},
	} {
		_, err := Parse("c.toml", []byte(c.text), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v; want %q", c.text, err, c.want)
		}
	}
	if _, err := Parse("c.toml", []byte("\uFEFF[log]\nlevel = \"warn\"\n"), nil); err != nil {
		t.Errorf("with a byte order mark, which harms nothing here: %v", err)
	}
}

// A certificate and a key that don't go together are told in our words, not in those of the library.
func TestACertificateWithoutItsKeyIsToldInWords(t *testing.T) {
	_, certificate, key := secure(t)
	_, other, otherKey := secure(t)
	cert, own := mustRead(t, certificate), mustRead(t, key)
	encrypted := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	damaged := []byte("-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n")
	for _, c := range []struct {
		cert, key []byte
		want      string
	}{
		{cert, own, ""},
		{cert, mustRead(t, otherKey), "belongs to another certificate"},
		{mustRead(t, other), own, "belongs to another certificate"},
		{own, cert, "have they changed places?"},
		{own, own, "a key where the certificate"},
		{cert, cert, "a certificate where the key"},
		{nil, own, "there is no certificate"},
		{cert, nil, "there is no key"},
		{cert, encrypted, "is it encrypted?"},
		{damaged, own, "the certificate can't be read"},
	} {
		_, err := Pair(c.cert, c.key)
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509") {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
