package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fileKind is a kind of file in the queue's directory.
type fileKind struct {
	name  string
	files string // below the queue's directory
	which func(names []string) []string

	derived bool // it is made again from the log, or holds no event: nothing may be missing
	grave   bool // without it nobody can tell what the directory is: the relay may refuse to start, with the reason
	whole   bool // it is a directory
}

var fileKinds = []fileKind{
	{name: "a slot of the journal", files: "journal/slot-*"},
	{name: "a sealed segment", files: "log/*.seg", which: func(names []string) []string { return names[:len(names)-1] }},
	{name: "the open segment", files: "log/*.seg", which: func(names []string) []string { return names[len(names)-1:] }},
	{name: "a table", files: "store/*.sst", derived: true},
	{name: "a write-ahead log", files: "store/*.mem", derived: true},
	{name: "a value log", files: "store/*.vlog", derived: true},
	{name: "the manifest", files: "store/MANIFEST", derived: true},
	{name: "the key registry", files: "store/KEYREGISTRY", derived: true},
	{name: "the discard statistics", files: "store/DISCARD", derived: true},
	{name: "the store", files: "store", derived: true, whole: true},
	{name: "the mark", files: "mark", derived: true},
	{name: "the lock", files: "lock", derived: true},
	{name: "the ballast", files: "ballast", derived: true},
	{name: "FORMAT", files: "FORMAT", derived: true, grave: true},
}

// harm is one way to spoil a file.
type harm struct {
	name string
	// do spoils the file at path in place. others are those of its kind; older is the directory of a queue as it was before.
	do     func(r *rand.Rand, path string, others []string, older string) error
	whole  bool // may befall a directory
	backup bool // may befall a backup
}

var harms = []harm{
	{name: "a flipped bit", do: flipBit, backup: true},
	{name: "a page of garbage", do: spoilPage, backup: true},
	{name: "zeros", do: zeroAll, backup: true},
	{name: "cut", do: cutFile, backup: true},
	{name: "removed", do: func(_ *rand.Rand, path string, _ []string, _ string) error { return os.RemoveAll(path) }, whole: true},
	{name: "swapped", do: swapFiles},
	{name: "doubled", do: doubleFile, backup: true},
	{name: "an older copy", do: olderCopy, whole: true},
}

// used is where what was written into a file ends: with the last byte that is not zero.
func used(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return int64(len(bytes.TrimRight(text, "\x00"))), nil
}

// somewhere is a place in what was written into a file, below nine tenths of it: what comes last in a journal can't be told
// from what a crash cut short.
func somewhere(r *rand.Rand, path string) (int64, error) {
	n, err := used(path)
	return r.Int64N(max(n*9/10, 1)), err
}

// inPlace changes n bytes at a place, or as many as there are.
func inPlace(path string, at int64, n int, change func([]byte)) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	raw := make([]byte, n)
	n, err = f.ReadAt(raw, at)
	if n > 0 {
		change(raw[:n])
		_, err = f.WriteAt(raw[:n], at)
	}
	return errors.Join(err, f.Close())
}

func flipBit(r *rand.Rand, path string, _ []string, _ string) error {
	at, err := somewhere(r, path)
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		return nil // it has none
	}
	return errors.Join(err, inPlace(path, at, 1, func(b []byte) { b[0] ^= 1 << r.IntN(8) }))
}

func spoilPage(r *rand.Rand, path string, _ []string, _ string) error {
	at, err := somewhere(r, path)
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		return nil
	}
	return errors.Join(err, inPlace(path, at&^4095, 4096, func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}))
}

func zeroAll(_ *rand.Rand, path string, _ []string, _ string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return err
	}
	return inPlace(path, 0, int(info.Size()), func(b []byte) { clear(b) })
}

func cutFile(r *rand.Rand, path string, _ []string, _ string) error {
	at, err := somewhere(r, path)
	return errors.Join(err, os.Truncate(path, at))
}

// swapFiles exchanges a file with another of its kind, or else its halves.
func swapFiles(r *rand.Rand, path string, others []string, _ string) error {
	if len(others) == 0 {
		n, err := used(path)
		return errors.Join(err, inPlace(path, 0, int(n), func(b []byte) {
			half := slices.Clone(b[:len(b)/2])
			copy(b, b[len(b)-len(half):])
			copy(b[len(b)-len(half):], half)
		}))
	}
	other, aside := others[r.IntN(len(others))], path+".swapped"
	return errors.Join(os.Rename(path, aside), os.Rename(other, path), os.Rename(aside, other))
}

// doubleFile puts a file also in the place of another of its kind, or else behind itself.
func doubleFile(r *rand.Rand, path string, others []string, _ string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return replaceFile(others[r.IntN(len(others))], text)
	}
	return replaceFile(path, slices.Concat(text, text))
}

// olderCopy puts back what the name had before, or else what another of its kind had.
func olderCopy(r *rand.Rand, path string, _ []string, older string) error {
	was := filepath.Join(older, filepath.Base(filepath.Dir(path)), filepath.Base(path))
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return errors.Join(os.RemoveAll(path), tool("cp", "-a", filepath.Join(older, filepath.Base(path)), path))
	}
	if _, err := os.Stat(was); err != nil {
		was = filepath.Join(older, filepath.Base(path))
	}
	if _, err := os.Stat(was); err != nil {
		kind := filepath.Join(older, filepath.Base(filepath.Dir(path)), "*"+filepath.Ext(path))
		if filepath.Ext(path) == "" {
			kind = filepath.Join(older, filepath.Base(filepath.Dir(path)), "slot-*")
		}
		names, _ := filepath.Glob(kind)
		if len(names) == 0 {
			return fmt.Errorf("there is no older copy of %s", path)
		}
		was = names[r.IntN(len(names))]
	}
	text, err := os.ReadFile(was)
	return errors.Join(err, replaceFile(path, text))
}

// replaceFile puts another file in the place of one, so that whoever has that open keeps it.
func replaceFile(path string, text []byte) error {
	return errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
}

// choose names a file of the kind, and the others.
func (k *fileKind) choose(r *rand.Rand, data string) (path string, others []string, err error) {
	names, err := filepath.Glob(filepath.Join(data, k.files))
	if err != nil {
		return "", nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".new") })
	if k.which != nil && len(names) > 0 {
		names = k.which(names)
	}
	if len(names) == 0 {
		return "", nil, fmt.Errorf("spoil %q: there is no such file", k.files)
	}
	i := r.IntN(len(names))
	return names[i], slices.Concat(names[:i], names[i+1:]), nil
}
