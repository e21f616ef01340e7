package config

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Watch tells whether included files are what they were when a configuration was made of them. It is used by one goroutine at a time.
type Watch struct {
	patterns []string
	base     string
	seen     map[string]seenFile
}

// Watch is a new Watch of the files that c includes; nil when it includes none.
func (c *Config) Watch() *Watch {
	if c.Included == nil {
		return nil
	}
	return &Watch{c.Include, c.Included.base, maps.Clone(c.Included.seen)}
}

// Changed names a file that was changed, added or deleted since, as messages name it; "" when there is none. It looks at every file and
// reads those alone that were written to. What can't be seen at this moment was not changed.
func (w *Watch) Changed() string {
	found, seen := map[string]bool{}, directories{}
	whole := true
	for _, pattern := range w.patterns {
		directory, name := filepath.Split(pattern)
		directory = seen.spelling(directory, cmp.Or(shownIn(w.base, directory), "."))
		entries, err := os.ReadDir(cmp.Or(shownIn(w.base, directory), "."))
		if err != nil {
			whole = false
			continue
		}
		for _, e := range entries {
			if path := directory + e.Name(); isIncluded(name, e.Name()) && !found[path] {
				found[path] = true
				if w.changed(path) {
					return shownIn(w.base, path)
				}
			}
		}
	}
	if !whole || len(found) >= len(w.seen) {
		return ""
	}
	for _, path := range slices.Sorted(maps.Keys(w.seen)) {
		if !found[path] {
			return shownIn(w.base, path)
		}
	}
	return ""
}

func (w *Watch) changed(path string) bool {
	before, known := w.seen[path]
	if !isPlain(path) { // it is never read
		return false
	}
	if !known {
		return true
	}
	shown := shownIn(w.base, path)
	info, err := os.Stat(shown)
	if err != nil || !info.Mode().IsRegular() || before.stamp.settled && before.stamp.same(stampOf(info)) {
		return false
	}
	text, now, err := readWhole(shown)
	switch {
	case err != nil || len(text) > MaxFile:
		return false
	case sha256.Sum256(text) != before.sum:
		return true
	}
	w.seen[path] = seenFile{now, before.sum}
	return false
}
