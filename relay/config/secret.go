package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"realtorbot-relay/sign"
)

// Resolver finds the value behind a reference, which is "env:NAME", "file:/path" or "cred:name". The value it returns
// is never empty. Its error fits into one line of a fault: it says which variable or file, and never holds a value.
type Resolver func(reference string) (string, error)

// maxSecret is the longest secret file in bytes; anything longer is the wrong file.
const maxSecret = 64 << 10

// exampleSecret is the one in config.example.toml. Everybody knows it, so that it is no secret of a readable file.
const exampleSecret = "example-secret-change-me"

// standIn finds what stands where a secret should be: a template that nobody filled in, or the word that a guide had there.
var standIn = regexp.MustCompile(`(?i)\{\{.*\}\}|\$\{[a-z_].*\}|^<[^<>]*>$|^\$[A-Z_]+$|(change|replace|fill)[ _-]?(me|this|in)([^a-z]|$)|^(your|my)[ _-].*(secret|token|key|password)$|[ _-]here$|^(%[a-z_]+%|__[a-z_]+__|@[a-z_]+@)$|^(x{6,}|\*{6,}|\.{3,})$`)

// shortestSecret is the length in bytes below which a secret draws a warning: 128 bits.
const shortestSecret = 16

// errEmpty is the reason for a reference that leads to nothing.
var errEmpty = errors.New("is empty")

func isReference(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:") || strings.HasPrefix(text, "cred:")
}

// ResolveSecret is the Resolver of the running process: its environment, its files, and the credentials that systemd
// gave it. Of a file it cuts one newline at the end. It is safe for concurrent use.
func ResolveSecret(reference string) (string, error) {
	kind, name, _ := strings.Cut(reference, ":")
	switch kind {
	case "env":
		return secretFromEnv(name)
	case "file":
		if !filepath.IsAbs(name) {
			return "", fmt.Errorf(`file %q must be an absolute path: write "file:/path"`, clip(name))
		}
		return secretFromFile(name)
	case "cred":
		return secretFromCredential(name)
	}
	return "", errors.New(`must be "env:NAME", "file:/path" or "cred:name"`)
}

// secret is a secret, in place or by reference. Whoever knows what it is for judges it.
var secret = kind{schema: schema{"type": "string"}, secret: true, read: func(t *table, key string, value, into any) {
	*into.(*sign.Secret) = t.secret(key, value)
}}

// judgedSecret is a secret that draws a warning when others may guess it.
var judgedSecret = kind{schema: secret.schema, secret: true, read: func(t *table, key string, value, into any) {
	secret.read(t, key, value, into)
	t.judgeSecret(key, *into.(*sign.Secret), false)
}}

// token is a judged secret that travels in a header of a request.
var token = kind{schema: schema{"type": "string", "pattern": `^(env|file|cred):|^[!-~]*$`}, secret: true, read: func(t *table, key string, value, into any) {
	judgedSecret.read(t, key, value, into)
	text := into.(*sign.Secret).Reveal()
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.fault(key, "must be printable ASCII without spaces, to fit into a header%s", holding(text))
	}
}}

// secret reads a secret, in place or by reference; it is empty where there is none or none that can be had. No fault shows it.
func (t *table) secret(key string, value any) sign.Secret {
	text, ok := value.(string)
	switch {
	case !ok:
		t.fault(key, "must be a text in quotes")
		return sign.Secret{}
	case text == "":
		return sign.Secret{}
	case isReference(text):
		t.volatile = t.volatile || !strings.HasPrefix(text, "env:")
		resolved, err := t.secrets(text)
		if err != nil {
			t.lacks(key, err)
			return sign.Secret{}
		}
		if path, ok := strings.CutPrefix(text, "file:"); ok {
			t.judgeFile(key, path)
		}
		text = resolved
	case text != exampleSecret:
		t.literals++
	}
	if what := unseen(strings.TrimSpace(text)); what != "" {
		t.warn(key, "holds a character, %s, and it becomes part of the value: type it anew unless it is meant", unseen(text))
	}
	return sign.NewSecret(text)
}

// judgeFile warns of a file with a secret that everybody on this machine can read.
func (t *table) judgeFile(key, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
		t.warn(key, "can be read by every user of this machine: chmod 0640 %s", clip(path))
	}
}

// judgeSecret warns of a secret that is easy to guess or was copied with too much. known excuses the example's, where
// it does no harm.
func (t *table) judgeSecret(key string, secret sign.Secret, known bool) {
	text := secret.Reveal()
	switch {
	case text == "":
	case text == exampleSecret:
		if !known {
			t.warn(key, "is the example's, which everybody knows: make one with: openssl rand -hex 32")
		}
	case standIn.MatchString(text):
		t.warn(key, "looks like a placeholder: make a secret with: openssl rand -hex 32")
	case secret.Len() < shortestSecret:
		t.warn(key, "is shorter than %d bytes and may be guessed: make one with: openssl rand -hex 32", shortestSecret)
	case quoted(text):
		t.warn(key, "stands in quotes of its own, which become part of the key: take them away")
	case strings.TrimSpace(text) != text:
		t.warn(key, "begins or ends with white space, which becomes part of the key")
	}
}

// Exposed says which tokens and secrets may be guessed by others: those shorter than 16 bytes of listeners that not only
// this machine reaches. intake and admin are the addresses that are listened on, in the form of Server.Listen. The lines
// hold no secret.
func (c *Config) Exposed(intake []string, admin string) (lines []string) {
	short := func(what string, secret sign.Secret) {
		if !secret.IsZero() && secret.Len() < shortestSecret {
			lines = append(lines, fmt.Sprintf("%s is shorter than %d bytes and others can connect: it may be guessed; make one with: openssl rand -hex 32", what, shortestSecret))
		}
	}
	if !IsLoopback(admin) {
		short("admin.token", c.Admin.Token)
	}
	if !slices.ContainsFunc(intake, func(address string) bool { return !IsLoopback(address) }) {
		return lines
	}
	for i := range c.Sources {
		s := &c.Sources[i]
		for _, k := range sectionOf("source").keys {
			if k.kind.secret {
				short(fmt.Sprintf("the %s of source %q", k.name, s.Name), *k.in(s).(*sign.Secret))
			}
		}
	}
	return lines
}

func secretFromEnv(name string) (string, error) {
	value, ok := os.LookupEnv(name)
	if !ok {
		return "", fmt.Errorf("environment variable %q is not set", clip(name))
	}
	if value == "" {
		return "", fmt.Errorf("environment variable %q %w", clip(name), errEmpty)
	}
	return value, nil
}

func secretFromCredential(name string) (string, error) {
	path, err := credentialPath(name)
	if err != nil {
		return "", err
	}
	value, err := secretFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", notGiven(name)
	}
	return value, err
}

// credentialPath is where systemd puts a credential of this process.
func credentialPath(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("credential %q must be a name without slashes", clip(name))
	}
	directory := os.Getenv("CREDENTIALS_DIRECTORY")
	if directory == "" {
		return "", fmt.Errorf("credential %q: this process was given none: add LoadCredential=%s:/path to its unit", name, name)
	}
	return filepath.Join(directory, name), nil
}

func notGiven(name string) error {
	return fmt.Errorf("credential %q was not given to this process: add LoadCredential=%s:/path to its unit", name, name)
}

func secretFromFile(path string) (string, error) {
	content, err := readRegular(path, maxSecret, "a secret")
	if err != nil {
		return "", err
	}
	value, cut := strings.CutSuffix(content, "\n")
	if cut {
		value = strings.TrimSuffix(value, "\r")
	}
	if value == "" {
		return "", fmt.Errorf("file %q %w", path, errEmpty)
	}
	return value, nil
}

// reasonOf is the error without the operation and the path, which the message has already.
func reasonOf(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
