package config

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// tooLarge is said of a file that is not read to its end.
var tooLarge = "is larger than a configuration can be (" + formatSize(MaxFile) + ")"

// mostFiles is how many files may be included; more are the wrong directory.
const mostFiles = 100_000

// Included is what a configuration has of the files that it includes. Read-only, as all of a Config.
type Included struct {
	Broken []Broken // in the order of the files

	files []*includedFile          // the last good version of each, in order, also of one that can't be served
	owner map[[2]string]string     // the file of each source and endpoint, as messages name it
	last  map[string]*includedFile // of files, by path
	seen  map[string]seenFile      // what each held when it was read, good or not, by path
	base  string
}

type seenFile struct {
	stamp stamp
	sum   [sha256.Size]byte // of its text; zero: it could not be read
}

// Broken is an included file whose present version is not what is served.
type Broken struct {
	File      string // as messages name it
	Faults    Faults
	Served    bool     // its last good version is
	Endpoints []string // of that one
}

// Lines are the faults on a line each, with what is served in place of the file.
func (b Broken) Lines() []string {
	instead := "; its last good version is served"
	if !b.Served {
		instead = "; nothing of this file is served, since there is no good version of it"
	}
	return each(b.Faults, func(f Fault) string { return f.String() + instead })
}

// mostLines is how many lines a start or a reload tells of broken files.
const mostLines = 100

// BrokenLines are those of all broken files, as many as a log can bear.
func (i *Included) BrokenLines() (lines []string) {
	for at, b := range i.BrokenFiles() {
		if lines = append(lines, b.Lines()...); len(lines) >= mostLines && at < len(i.Broken)-1 {
			return append(lines[:mostLines], fmt.Sprintf("%d more included files are broken: realtorbot-relay check tells them all", len(i.Broken)-at-1))
		}
	}
	return lines
}

// Version is an included file as it was when all was well with it.
type Version struct {
	Path string // as the main file has it: the pattern's directory and the name
	Text string
}

// Versions are the last good version of each included file, in their order.
func (i *Included) Versions() []Version {
	if i == nil {
		return nil
	}
	versions := make([]Version, len(i.files))
	for at, f := range i.files {
		versions[at] = Version{f.path, f.text}
	}
	return versions
}

// BrokenFiles are those of i, which may be nil.
func (i *Included) BrokenFiles() []Broken {
	if i == nil {
		return nil
	}
	return i.Broken
}

// fileOf is the included file of a source or an endpoint; "" for those of the main file.
func (i *Included) fileOf(section, name string) string {
	if i == nil {
		return ""
	}
	return i.owner[[2]string{section, name}]
}

// includedFile is one version of an included file, and what it means beside a certain main file.
type includedFile struct {
	path, shown string
	text        string
	stamp       stamp
	sum         [sha256.Size]byte
	beside      *surroundings // nil: nobody knows yet what it means
	sources     []Source
	endpoints   []Endpoint
	warnings    Faults
	volatile    bool // the same text may mean something else the next time

	faults, absent Faults // of a version that is not good; absent alone, outside
	served         bool
}

// surroundings are what an included file is read beside. It says nothing of other included files: each is good or bad by itself, but
// for names that two of them have.
type surroundings struct {
	server    Server
	delivery  Delivery
	types     []string
	endpoints map[string]bool // of the main file, and whether they are enabled
}

// keys are what no other file may have: names of sources and endpoints, and paths.
func (f *includedFile) keys(yield func(section, key, value string, at int) bool) {
	for i := range f.sources {
		if !yield("source", "name", f.sources[i].Name, i) || !yield("source", "path", f.sources[i].Path, i) {
			return
		}
	}
	for i := range f.endpoints {
		if !yield("endpoint", "name", f.endpoints[i].Name, i) {
			return
		}
	}
}

func (f *includedFile) nameOf(section string, at int) string {
	if section == "source" {
		return f.sources[at].Name
	}
	return f.endpoints[at].Name
}

func (f *includedFile) has(section, key, value string) (found bool) {
	f.keys(func(s, k, v string, _ int) bool {
		found = s == section && k == key && v == value
		return !found
	})
	return found
}

// lineOf is where the text has a key of an element of a list. It is asked for names that two files have, alone.
func lineOf(text, section, key string, at int) int {
	_, lines, _ := decode("", text)
	return lines.all().find(place("").key(section).index(at).key(key))
}

func inLine(file string, line int) string { return file + ifSet(line > 0, fmt.Sprintf(":%d", line)) }

// stamp tells whether a file was written to since it was read. No program can set the time of a change, and a size, an inode and
// that time are one version's alone once the time has passed by a little.
type stamp struct {
	dev, ino     uint64
	size         int64
	mode         fs.FileMode
	mtime, ctime time.Time
	settled      bool // when the file was read, its times had passed for longer than any file system rounds them
}

// roundedTo is more than what file systems round times to.
const roundedTo = 2 * time.Second

func stampOf(info fs.FileInfo) (s stamp) {
	s = stamp{size: info.Size(), mode: info.Mode(), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.ctime = uint64(st.Dev), st.Ino, time.Unix(st.Ctim.Unix())
		s.settled = time.Since(s.ctime) > roundedTo
	}
	return s
}

func (s stamp) same(other stamp) bool {
	return s.dev == other.dev && s.ino == other.ino && s.size == other.size && s.mode == other.mode && s.mtime.Equal(other.mtime) && s.ctime.Equal(other.ctime)
}

// checkPattern says what is wrong with an element of include, or "".
func checkPattern(pattern string) string {
	directory, name := filepath.Split(pattern)
	switch _, err := filepath.Match(name, ""); {
	case strings.ContainsRune(pattern, 0) || isReference(pattern):
		return "is no pattern of files: write one like \"endpoints.d/*.toml\""
	case strings.ContainsAny(directory, "*?["):
		return "may have * ? [ ] in its last step alone"
	case name == "" || err != nil:
		return "is no pattern of files: write one like \"endpoints.d/*.toml\""
	}
	return ""
}

// including reads the files that a main file includes.
type including struct {
	c       *Config
	root    *table // of the main file
	beside  *surroundings
	base    string // the main file's directory
	outside bool
	secrets Resolver
	running *Included         // what is served now; nil at a start
	kept    map[string]string // at a start: the last good texts
	pause   func()            // nil: a file may be taken as it is, though somebody may be writing it
	lasts   map[string]*includedFile
	absent  Faults
	seen    map[string]seenFile

	main      fs.FileInfo // of the main file
	mainKnown bool
}

// pick is which version of a file is taken.
type pick struct {
	path   string
	file   *includedFile // nil: none
	isLast bool          // it is the last good one, and not what the file holds
	faults Faults        // of what the file holds
}

// read adds to the configuration what the included files have.
func (x *including) read() {
	x.beside = &surroundings{server: x.c.Server, delivery: x.c.Delivery, types: x.root.types, endpoints: map[string]bool{}}
	for i := range x.c.Endpoints {
		x.beside.endpoints[x.c.Endpoints[i].Name] = x.c.Endpoints[i].Enabled
	}
	x.lasts = map[string]*includedFile{}
	paths, gone := x.list()
	choices := make([]*pick, 0, len(paths)+len(gone))
	x.seen = make(map[string]seenFile, len(paths))
	for _, f := range x.load(paths) {
		x.seen[f.path] = seenFile{f.stamp, f.sum}
		if len(f.faults) > 0 || len(f.absent) > 0 && !x.outside {
			choices = append(choices, &pick{path: f.path, file: x.last(f.path), isLast: true, faults: f.faults})
			f.text = "" // nobody asks for it again
		} else {
			x.absent = append(x.absent, f.absent...)
			choices = append(choices, &pick{path: f.path, file: f})
		}
	}
	choices = append(choices, gone...)
	x.settle(choices)
	x.compose(choices)
}

// list finds the files. What was served out of a directory that can't be read is no file that vanished: it is gone, but goes on.
func (x *including) list() (paths []string, gone []*pick) {
	known, seen := map[string]bool{}, directories{}
	for i, pattern := range x.c.Include {
		directory, name := filepath.Split(pattern)
		directory = seen.spelling(directory, cmp.Or(x.shown(directory), "."))
		entries, err := os.ReadDir(cmp.Or(x.shown(directory), "."))
		fault := Fault{File: x.root.file, Line: x.root.lines.all().find(x.root.at.key("include").index(i)), Key: fmt.Sprintf("include[%d]", i+1)}
		if err != nil {
			fault.Text = fmt.Sprintf("directory %q: %s", x.shown(directory), reasonOf(err))
			before := x.before(directory, name, known)
			for _, path := range before {
				gone = append(gone, &pick{path: path, file: x.last(path), isLast: true, faults: Faults{fault}})
			}
			switch {
			case len(before) > 0:
			case errors.Is(err, fs.ErrNotExist):
				x.root.odd = append(x.root.odd, fault)
			default:
				gone = append(gone, &pick{path: cmp.Or(directory, "."), faults: Faults{fault}})
			}
			continue
		}
		found := 0
		for _, e := range entries {
			if !isIncluded(name, e.Name()) {
				continue
			}
			found++
			if path := directory + e.Name(); !known[path] {
				known[path] = true
				paths = append(paths, path)
			}
		}
		if found == 0 {
			fault.Text = fmt.Sprintf("%q matches no file", clip(pattern))
			x.root.odd = append(x.root.odd, fault)
		}
	}
	if len(paths) > mostFiles {
		x.root.fault("include", "matches %d files; at most %d can be included", len(paths), mostFiles)
		return nil, nil
	}
	return paths, gone
}

// isIncluded reports whether a pattern's last step, which was checked, has a name. A hidden file is an editor's.
func isIncluded(pattern, name string) bool {
	ok, _ := filepath.Match(pattern, name)
	return ok && name[0] != '.'
}

// directories are those that patterns name, by how they were spelled first: spelled in another way, one's files are not others.
type directories map[string]fs.FileInfo

func (d directories) spelling(directory, shown string) string {
	info, err := os.Stat(shown)
	if err != nil {
		return directory
	}
	for first, other := range d {
		if os.SameFile(info, other) {
			return first
		}
	}
	d[directory] = info
	return directory
}

// before are the files of a pattern that there are last good versions of.
func (x *including) before(directory, name string, known map[string]bool) (paths []string) {
	all := slices.Collect(maps.Keys(x.kept))
	if x.running != nil {
		all = slices.Collect(maps.Keys(x.running.last))
	}
	for _, at := range slices.Sorted(slices.Values(all)) {
		in, file := filepath.Split(at)
		if ok, _ := filepath.Match(name, file); ok && in == directory && !known[at] {
			known[at] = true
			paths = append(paths, at)
		}
	}
	return paths
}

// shown is how messages name a file, and where it is.
func (x *including) shown(path string) string { return shownIn(x.base, path) }

func shownIn(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// load reads the files, each of which is good or has faults. Those that are being written are read again.
func (x *including) load(paths []string) []*includedFile {
	files := make([]*includedFile, len(paths))
	var fresh []int
	for i, path := range paths {
		files[i] = x.loadOne(path)
		if !files[i].stamp.settled {
			fresh = append(fresh, i)
		}
	}
	for reads := 1; x.pause != nil && len(fresh) > 0; reads++ {
		x.pause()
		fresh = slices.DeleteFunc(fresh, func(i int) bool {
			if info, err := os.Stat(files[i].shown); err != nil || files[i].stamp.same(stampOf(info)) {
				return true
			}
			if files[i] = x.loadOne(paths[i]); reads == maxReads {
				files[i].faults = Faults{{File: files[i].shown, Text: "is being written: reload once it is whole"}}
				return true
			}
			return false
		})
	}
	return files
}

// loadOne reads a file, unless what it holds is known.
func (x *including) loadOne(path string) *includedFile {
	shown := x.shown(path)
	bad := func(text string) *includedFile {
		return &includedFile{path: path, shown: shown, stamp: stamp{settled: true}, faults: Faults{{File: shown, Text: text}}}
	}
	info, err := os.Stat(shown)
	switch {
	case !isPlain(path):
		shown = fmt.Sprintf("%q", shown)
		return bad("its name has characters that are not text: rename it")
	case err != nil:
		return bad("can't be read: " + reasonOf(err).Error())
	case !info.Mode().IsRegular():
		return bad("is not a regular file")
	case x.isMain(info):
		f := bad("is the main file itself: write an include that does not match it")
		f.stamp = stampOf(info)
		f.stamp.settled = true // Watch need not read it
		return f
	case info.Size() > MaxFile:
		return bad(tooLarge)
	}
	now := stampOf(info)
	var known *includedFile
	if x.running != nil {
		known = x.running.last[path]
	}
	if known != nil && known.served && !known.volatile && known.stamp.settled && known.stamp.same(now) && x.means(known) {
		return known
	}
	raw, now, err := readWhole(shown)
	if err != nil {
		return bad("can't be read: " + reasonOf(err).Error())
	}
	text := string(raw)
	if known != nil && known.text == text {
		text = known.text
	}
	f := x.parse(path, text, now.mode)
	f.stamp, f.sum = now, sha256.Sum256(raw)
	return f
}

// readWhole reads a file, and says what it was like before. Written to meanwhile it is not settled, so that it is read again. What has taken
// a file's place and is none, like a pipe, is not waited for.
func readWhole(name string) (text []byte, before stamp, err error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, stamp{}, errors.New("is not a regular file")
	}
	before = stampOf(info)
	if text, err = io.ReadAll(io.LimitReader(file, MaxFile+1)); err != nil {
		return nil, stamp{}, err
	}
	if info, err = file.Stat(); err != nil {
		return nil, stamp{}, err
	}
	before.settled = before.settled && before.same(stampOf(info))
	return text, before, nil
}

// isPlain reports whether a path can stand in a line of a log, and is the same again after it was written as JSON.
func isPlain(path string) bool {
	return utf8.ValidString(path) && !strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) })
}

// isMain reports whether a file is the one that includes it.
func (x *including) isMain(info fs.FileInfo) bool {
	if !x.mainKnown {
		x.mainKnown = true
		x.main, _ = os.Stat(x.root.file)
	}
	return x.main != nil && os.SameFile(x.main, info)
}

// means reports whether what was read of a file beside another main file still is what it means.
func (x *including) means(f *includedFile) bool {
	if f.beside == x.beside {
		return true
	}
	if f.beside == nil || !reflect.DeepEqual(f.beside, x.beside) {
		return false
	}
	x.beside = f.beside // of all the others too, most likely
	return true
}

// parse reads the text of a file.
func (x *including) parse(path, text string, mode fs.FileMode) *includedFile {
	f := &includedFile{path: path, shown: x.shown(path), text: text, beside: x.beside}
	r := &reader{file: f.shown, secrets: x.secrets, outside: x.outside, included: true, types: x.beside.types}
	defer func() {
		r.faults.sort()
		r.odd.sort()
		f.faults, f.absent, f.warnings, f.volatile = r.faults, r.absent, r.odd, r.volatile
	}()
	if len(text) > MaxFile {
		r.faults = Faults{{File: f.shown, Text: tooLarge}}
		return f
	}
	values, lines, fault := decode(f.shown, text)
	if fault != nil {
		r.faults = Faults{*fault}
		return f
	}
	r.lines = lines
	root := &table{reader: r, values: values}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case key == "endpoint" || key == "source":
		case slices.ContainsFunc(sections, func(s section) bool { return s.name == key }) || key == "include":
			root.fault(key, "belongs into the main file: an included one holds [[endpoint]] and [[source]] and nothing else")
		default:
			root.fault(key, "unknown key: an included file holds [[endpoint]] and [[source]] and nothing else")
		}
	}
	f.sources = readSourceTables(root.subs("source"), x.beside.server)
	tables := root.subs("endpoint")
	f.endpoints = readEach(tables, x.beside.delivery)
	checkOnFailed(nil, tables, f.endpoints, x.beside.endpoints)
	checkSubscribed(tables, f.endpoints, false)
	if len(f.sources)+len(f.endpoints) == 0 && len(r.faults) == 0 {
		r.faults = Faults{{File: f.shown, Text: "holds no [[endpoint]] and no [[source]]: write one, or delete the file"}}
	}
	if r.literals > 0 && mode.Perm()&0o004 != 0 {
		r.odd = append(r.odd, Fault{File: f.shown, Text: readable})
	}
	return f
}

// last is the last good version of a file, by what it means now; nil when there is none that can be served.
func (x *including) last(path string) *includedFile {
	f, done := x.lasts[path]
	if done {
		return f
	}
	if x.running != nil {
		if f = x.running.last[path]; f != nil && !(f.served && x.means(f)) {
			if now := x.parse(path, f.text, 0); len(now.faults) == 0 {
				f = now
			} else if !f.served {
				f = nil
			} // else it goes on as it was
		}
	} else if text, ok := x.kept[path]; ok {
		if f = x.parse(path, text, 0); len(f.faults) > 0 {
			f = nil
		}
	}
	x.lasts[path] = f
	return f
}

// settle finds names and paths that two files have. The one that served it goes on with it, the first of those of which none did; the
// other is told, and gives way to its last good version, which gives way to none. Each file is looked at once, and again when it gave way.
func (x *including) settle(choices []*pick) {
	type holding struct {
		*pick
		at int
	}
	holders, main := map[[3]string]holding{}, x.mainKeys()
	what := func(key [3]string, where string) string {
		return ifElse(key[1] == "path", "the path of a source", "the name of another") + " at " + where
	}
	where := func(c *pick, key [3]string, at int) string {
		return inLine(c.file.shown, lineOf(c.file.text, key[0], key[1], at))
	}
	keys := func(c *pick, do func(key [3]string, at int)) {
		c.file.keys(func(section, name, value string, at int) bool {
			do([3]string{section, name, value}, at)
			return true
		})
	}
	waiting := slices.Clone(choices)
	giveWay := func(c *pick) {
		if c.isLast {
			c.file = nil
			return
		}
		c.file, c.isLast = x.last(c.path), true
		waiting = append(waiting, c)
	}
	for at := 0; at < len(waiting); at++ {
		c := waiting[at]
		if c.file == nil {
			continue
		}
		loses := false
		keys(c, func(key [3]string, at int) {
			if line, ok := main[key]; ok {
				loses = true
				c.lose(at, key, what(key, inLine(x.root.file, line())))
			} else if other, taken := holders[key]; taken && !x.goesBefore(c, other.pick, key) {
				loses = true
				c.lose(at, key, what(key, where(other.pick, key, other.at)))
			}
		})
		if loses {
			giveWay(c)
			continue
		}
		var evicted []*pick
		keys(c, func(key [3]string, at int) {
			if other, taken := holders[key]; taken {
				other.lose(other.at, key, what(key, where(c, key, at)))
				if !slices.Contains(evicted, other.pick) {
					evicted = append(evicted, other.pick)
				}
			}
		})
		for _, other := range evicted {
			keys(other, func(key [3]string, _ int) { delete(holders, key) }) // it held all of its own
			giveWay(other)
		}
		keys(c, func(key [3]string, at int) { holders[key] = holding{c, at} })
	}
}

// lose notes that somebody else has a name or a path of the file.
func (c *pick) lose(at int, key [3]string, other string) {
	text := fmt.Sprintf("%q is %s: choose one that is free", key[2], other)
	fault := Fault{File: c.file.shown, Line: lineOf(c.file.text, key[0], key[1], at), Key: key[0] + "." + c.file.nameOf(key[0], at) + "." + key[1], Text: text}
	if c.isLast {
		fault.Text, fault.Line = "the last good version can't be served either: "+text, 0
	}
	c.faults = append(c.faults, fault)
}

// goesBefore reports whether a takes a name from b, which comes before it.
func (x *including) goesBefore(a, b *pick, key [3]string) bool {
	if a.isLast != b.isLast {
		return a.isLast
	}
	served := func(c *pick) bool {
		f := x.last(c.path)
		return f != nil && f.has(key[0], key[1], key[2])
	}
	return served(a) && !served(b)
}

// mainKeys are the names and paths of the main file, with their lines.
func (x *including) mainKeys() map[[3]string]func() int {
	keys := map[[3]string]func() int{}
	main := &includedFile{sources: x.c.Sources, endpoints: x.c.Endpoints}
	main.keys(func(section, key, value string, at int) bool {
		keys[[3]string{section, key, value}] = func() int { return x.root.lines.all().find(place("").key(section).index(at).key(key)) }
		return true
	})
	return keys
}

// mostWarnings is how many warnings of included files a relay tells: of thousands of files, each may have some.
const mostWarnings = 100

func (x *including) compose(choices []*pick) {
	in := &Included{owner: map[[2]string]string{}, last: make(map[string]*includedFile, len(choices)), seen: x.seen, base: x.base}
	var warnings Faults
	for _, c := range choices {
		f := c.file
		if len(c.faults) > 0 {
			b := Broken{File: x.shown(c.path), Faults: c.faults, Served: f != nil}
			if f != nil {
				b.Endpoints = each(f.endpoints, func(e Endpoint) string { return e.Name })
			}
			in.Broken = append(in.Broken, b)
		}
		if f == nil { // what was good once is kept until there is a better one
			switch {
			case x.running != nil && x.running.last[c.path] != nil:
				f = &includedFile{path: c.path, text: x.running.last[c.path].text}
			case x.kept[c.path] != "":
				f = &includedFile{path: c.path, text: x.kept[c.path]}
			default:
				continue
			}
		} else {
			f.served = true
			for i := range f.sources {
				in.owner[[2]string{"source", f.sources[i].Name}] = f.shown
			}
			for i := range f.endpoints {
				in.owner[[2]string{"endpoint", f.endpoints[i].Name}] = f.shown
			}
			x.c.Sources, x.c.Endpoints = append(x.c.Sources, f.sources...), append(x.c.Endpoints, f.endpoints...)
			warnings = append(warnings, f.warnings...)
		}
		in.files = append(in.files, f)
		in.last[f.path] = f
	}
	if n := len(warnings) - mostWarnings; n > 0 && !x.outside {
		warnings = append(warnings[:mostWarnings:mostWarnings], Fault{File: x.root.file, Key: "include", Text: fmt.Sprintf("%d more warnings about included files: realtorbot-relay check tells them all", n)})
	}
	x.root.odd = append(x.root.odd, warnings...)
	x.c.Included = in
}

// faults are those of all broken files.
func (i *Included) faults() (all Faults) {
	for _, b := range i.BrokenFiles() {
		all = append(all, b.Faults...)
	}
	return all
}
