package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// MaxFile is the largest configuration file in bytes: some thousand endpoints. Anything larger is the wrong file.
const MaxFile = 1 << 20

// Load reads and checks the configuration file at path and the files that it includes, with the secrets, and the TLS pair, that they
// name. The error is Faults with everything that is wrong in any of them, or says in one line why the file can't be read.
func Load(path string) (*Config, error) {
	return load(path, reading{strict: true})
}

// LoadOutside is Load for those who look at a relay from outside and may not have what it has: its credentials, its
// environment, the right to read its files. What can't be had is empty in the configuration and told in absent.
func LoadOutside(path string) (c *Config, absent Faults, err error) {
	c, err = load(path, reading{strict: true, outside: true, absent: &absent})
	return c, absent, err
}

// LoadMain is LoadOutside of the file alone, without those that it includes: for who only asks where the relay is.
func LoadMain(path string) (*Config, error) {
	return load(path, reading{alone: true, outside: true, absent: new(Faults)})
}

// LoadServed is Load for the start of a relay. An included file that is bad is no error: its last good version, which kept finds
// beside the queue, goes on in its place (Config.Included.Broken). As Reload does, it waits for included files that somebody is writing.
func LoadServed(path string, kept func(queue Queue) []Version) (*Config, error) {
	return load(path, reading{kept: kept, pause: func() { time.Sleep(writeGap) }})
}

// Reload is LoadServed for a relay that runs: what is served now are the last good versions, and strict makes a bad included file an
// error. Somebody may be writing the files at this moment: Reload waits, a second at most, until two reads 20 ms apart are of one and
// the same writing. A file of which only the beginning is there can be a valid configuration, of no endpoint.
func Reload(path string, running *Config, strict bool) (*Config, error) {
	return reload(path, reading{running: running, strict: strict, pause: func() { time.Sleep(writeGap) }})
}

func reload(path string, how reading) (*Config, error) {
	text, info, err := readConfig(path)
	for reads := 1; err == nil; reads++ {
		how.pause()
		before, written := text, info.ModTime()
		if text, info, err = readConfig(path); err != nil || bytes.Equal(before, text) && written.Equal(info.ModTime()) {
			break
		}
		if reads == maxReads {
			return nil, fmt.Errorf("read configuration %q: it is being written: reload once it is whole", path)
		}
	}
	return check(path, text, info, err, how)
}

// reading is how a configuration is read.
type reading struct {
	alone   bool    // without included files
	strict  bool    // a bad included file is an error
	outside bool    // by somebody who may not have what the relay has
	absent  *Faults // then, what could not be had
	running *Config // nil at a start
	kept    func(Queue) []Version
	pause   func() // between two reads of what somebody may be writing; nil: it is taken as it is
}

const (
	writeGap = 20 * time.Millisecond
	maxReads = 50
)

func load(path string, how reading) (*Config, error) {
	text, info, err := readConfig(path)
	return check(path, text, info, err, how)
}

// readable is a warning about a file.
const readable = "every user of this machine can read the secrets in it: chmod 0640, or write them as env:, file: or cred:"

// check makes a configuration of what was read, or not.
func check(path string, text []byte, info fs.FileInfo, err error, how reading) (*Config, error) {
	if err != nil {
		return nil, fmt.Errorf("read configuration %q: %w", path, reasonOf(err))
	}
	r := &reader{file: path, secrets: ResolveSecret, outside: how.outside}
	c, err := r.parse(text, &how)
	if err != nil {
		return nil, err
	}
	if how.absent != nil {
		*how.absent = r.absent
	}
	c.Sum = sha256.Sum256(text)
	if r.literals > 0 && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		c.Warnings = append(c.Warnings, Fault{File: path, Text: readable}.String())
	}
	return c, nil
}

// readConfig reads no more than what tells that a file is too large.
func readConfig(path string) (text []byte, info fs.FileInfo, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	text, err = io.ReadAll(io.LimitReader(file, MaxFile+1))
	return text, info, err
}

// LogOf is how a file would have the relay write its log, for whoever says what is wrong with the rest of it: the defaults
// where that can't be told either.
func LogOf(path string) Log {
	log := defaults().Log
	if text, _, err := readConfig(path); err == nil {
		if values, lines, fault := decode(path, string(text)); fault == nil {
			root := &table{reader: &reader{file: path, lines: lines}, values: values}
			sectionOf("log").read(root.sub("log"), &log)
		}
	}
	return log
}

// AdminOf is what a file says of the admin listener, whatever is wrong with the rest of it. A token that can't be had here is empty.
// ok is false when that can't be told.
func AdminOf(path string) (admin Admin, ok bool) {
	text, _, err := readConfig(path)
	if err != nil {
		return admin, false
	}
	values, lines, fault := decode(path, string(text))
	if fault != nil {
		return admin, false
	}
	admin = defaults().Admin
	r := &reader{file: path, lines: lines, secrets: ResolveSecret, outside: true}
	sectionOf("admin").read((&table{reader: r, values: values}).sub("admin"), &admin)
	return admin, len(r.faults) == 0
}

// Parse is Load without the file: name stands for its path in messages, secrets finds what references lead to (nil: as
// Load does). The error is always Faults. It doesn't keep text, and reads no file that is included.
func Parse(name string, text []byte, secrets Resolver) (*Config, error) {
	if secrets == nil {
		secrets = ResolveSecret
	}
	return (&reader{file: name, secrets: secrets}).parse(text, &reading{alone: true})
}

func (r *reader) parse(text []byte, how *reading) (*Config, error) {
	if len(text) > MaxFile {
		return nil, Faults{{File: r.file, Text: tooLarge}}
	}
	values, lines, fault := decode(r.file, string(text))
	if fault != nil {
		return nil, Faults{*fault}
	}
	r.lines = lines
	root := &table{reader: r, values: values}
	c := read(root)
	r.faults.sort()
	r.odd.sort()
	if len(c.Include) > 0 && !how.alone && (len(r.faults) == 0 || how.strict) {
		r.include(c, root, how)
	}
	if len(r.faults) > 0 {
		return nil, r.faults
	}
	c.Path = r.file
	for _, warning := range r.odd {
		c.Warnings = append(c.Warnings, warning.String())
	}
	return c, nil
}

// include reads the included files.
func (r *reader) include(c *Config, root *table, how *reading) {
	x := &including{c: c, root: root, base: filepath.Dir(r.file), outside: how.outside, secrets: r.secrets, pause: how.pause}
	switch {
	case how.running != nil:
		x.running = how.running.Included
	case how.kept != nil:
		x.kept = map[string]string{}
		for _, v := range how.kept(c.Queue) {
			x.kept[v.Path] = v.Text
		}
	}
	x.read()
	r.absent = append(r.absent, x.absent...)
	if how.strict {
		r.faults = append(r.faults, c.Included.faults()...)
	}
}

// echo finds those of the toml library's messages that hold a piece of a value. It may be a secret whose quotes were
// forgotten.
var echo = regexp.MustCompile(`^expected value but|"[^"]{3,}"|: '`)

// decode turns the text into maps, in which, unlike in the library's structs, keys keep their case, and finds the lines of what is in
// them. The library stops at the first thing that isn't TOML.
func decode(name, text string) (values map[string]any, lines *textLines, fault *Fault) {
	// A byte order mark before UTF-8 does no harm here, where it can't become part of a value.
	text = strings.TrimPrefix(text, "\uFEFF")
	if reason := Misencoded(text); reason != "" {
		return nil, nil, &Fault{File: name, Text: reason}
	}
	meta, err := toml.Decode(text, &values)
	if err == nil {
		return values, &textLines{text: text, keys: meta.Keys()}, nil
	}
	fault = &Fault{File: name, Text: "is not valid TOML"}
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		at := min(syntax.Position.Start, len(text))
		fault.Line = 1 + strings.Count(text[:at], "\n") // the library's is one too far where a name in brackets has no end
		fault.Text += ": " + notTOML(syntax.Message, text[at:])
	}
	return nil, nil, fault
}

// notTOML says what is wrong with a text that isn't TOML. message is the library's, at is the text from where it stopped.
// Nothing of a value is repeated but a single character.
func notTOML(message, at string) string {
	r, n := utf8.DecodeRuneInString(at)
	switch {
	case IsCurlyQuote(r) || r == '`' && strings.HasPrefix(message, "expected value"):
		return fmt.Sprintf(`%c is no quote that TOML knows: write "straight ones", as on a keyboard`, r)
	case n > 0 && r != '\n' && r != '\r' && r != '\t' && unseen(at[:n]) != "":
		return fmt.Sprintf("there is %U, which nobody sees: delete it", r)
	case strings.HasPrefix(message, "invalid escape"), strings.Contains(message, "hexadecimal digits after"):
		return `a backslash in "…" begins an escape: write \\ for one, or the text in '…', where it stands for itself`
	case strings.HasPrefix(message, "strings cannot contain newlines"), strings.HasPrefix(message, `unexpected EOF; expected '"'`), strings.HasPrefix(message, `unexpected EOF; expected "'"`):
		return "a quote that begins a text on this line has no end"
	case strings.HasPrefix(message, "invalid UTF-8"):
		return "this line is not in UTF-8: save the file as UTF-8"
	case strings.HasPrefix(message, "expected a top-level item to end"):
		return "there is more on this line than one key and its value; a text needs quotes around all of it"
	case echo.MatchString(message):
		return "the value is no number, no date, no true or false; a text needs quotes"
	}
	return strings.Map(printable, message)
}

// printable keeps a message that quotes the file on one line, and from steering the terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// read goes through the file from top to bottom, and then judges what its keys ask of each other.
func read(root *table) *Config {
	c := defaults()
	var names []string
	tables := map[string]*table{}
	for i := range sections {
		s := &sections[i]
		if s.name == "" {
			s.fill(root, c)
			names = append(names, s.keyNames()...)
			continue
		}
		names = append(names, s.name)
		if !s.list {
			tables[s.name] = root.sub(s.name)
			s.read(tables[s.name], s.in(c))
		}
	}
	checkServer(tables["server"], &c.Server)
	checkAdmin(tables["admin"], &c.Admin)
	checkListeners(root, c.Server, c.Admin)
	checkHeartbeat(tables["heartbeat"], &c.Heartbeat)
	c.Sources = readSources(root, c.Server)
	root.types = slices.Concat(catalogue, c.Events.Custom, alerts)
	c.Endpoints = readEndpoints(root, tables["delivery"], c)
	root.rest(names)
	return c
}
