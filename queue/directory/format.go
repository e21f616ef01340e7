package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// Fault places.
const (
	PlaceFormat     = "format file"
	PlaceFormatName = "name of the format file"
)

const formatFile = "FORMAT"

// Format is what the file FORMAT says: in which layout a queue is written.
//
// What a later version of the relay adds to a layout, and an earlier one would misunderstand, is named in With before the
// first of it is written: "format 2 with keys". A version that does not know the name leaves the queue alone.
type Format struct {
	Version  int    // 0: there is no queue yet
	Draft    int    // of a version that is not finished; 0: it is
	With     string // what was added to the version; this version of the relay knows nothing that was
	MemTable int64  // bytes of the store's tables in memory, which must not become smaller
}

// Current is the format that this version writes; the caller sets MemTable.
var Current = Format{Version: 2}

// String is the line in the file, without its end.
func (f Format) String() string {
	return fmt.Sprintf("realtorbot-relay queue, %s, memtable %d", f.name(), f.MemTable)
}

// name is what an operator calls it.
func (f Format) name() string {
	name := fmt.Sprintf("format %d", f.Version)
	if f.Draft > 0 {
		name += fmt.Sprintf(" draft %d", f.Draft)
	}
	if f.With != "" {
		name += " with " + f.With
	}
	return name
}

// parseFormat reads the line; of other formats it reads only which they are.
func parseFormat(text string) (f Format, ok bool) {
	if _, err := fmt.Sscanf(text, "realtorbot-relay queue, format %d", &f.Version); err != nil || f.Version < 1 {
		return Format{}, false
	}
	_, rest, _ := strings.Cut(text, fmt.Sprintf("format %d draft ", f.Version))
	if _, err := fmt.Sscanf(rest, "%d", &f.Draft); rest != "" && (err != nil || f.Draft < 1) {
		return Format{}, false
	}
	if _, with, is := strings.Cut(text, fmt.Sprintf("format %d with ", f.Version)); is {
		f.With, _, is = strings.Cut(with, ", memtable ")
		if !is || f.With == "" || len(f.With) > 200 || strings.ContainsFunc(f.With, unicode.IsControl) {
			return Format{}, false
		}
	}
	if f.newer() || f.unfinished() {
		return f, true
	}
	if _, err := fmt.Sscanf(text[strings.LastIndex(text, " "):], " %d", &f.MemTable); err != nil || f.MemTable < 1<<20 || f.MemTable > 1<<30 {
		return Format{}, false
	}
	return f, strings.TrimSuffix(text, "\n") == f.String() && (f.Draft == 0 && f.With == "" || f.Version == Current.Version)
}

func (f Format) newer() bool {
	return f.Version > Current.Version || f.Version == Current.Version && (f.With != "" || f.Draft == 0 && Current.Draft > 0)
}

func (f Format) unfinished() bool {
	return f.Version == Current.Version && f.Draft > 0 && f.Draft != Current.Draft
}

// queueFiles are the names that a queue's directory has, and what they are for the operator.
var queueFiles = [...]struct{ name, what string }{
	{formatFile, ""}, {"store", "a store"}, {"log", "a log"}, {"journal", "a journal"},
}

// contents returns one name in the directory that belongs to a queue; "" when there is none.
func (d *Directory) contents() (name string, err error) {
	for _, k := range queueFiles {
		path := filepath.Join(d.path, k.name)
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			var names []os.DirEntry
			names, err = os.ReadDir(path)
			if len(names) == 0 && err == nil {
				continue
			}
		}
		if err == nil {
			return k.name, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// ReadFormat reads the file FORMAT: Version is 0 when there is no queue. An error says what is wrong with the file, or which
// version of the relay can read the queue. It writes nothing.
func (d *Directory) ReadFormat() (Format, error) {
	text, err := os.ReadFile(filepath.Join(d.path, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		found, err := d.contents()
		if err != nil {
			return Format{}, err
		}
		for _, k := range queueFiles {
			if k.name == found {
				return Format{}, fmt.Errorf("the directory has %s but no file %q, so its format is not known: put the file back from a copy, or use an empty directory", k.what, formatFile)
			}
		}
		return Format{}, nil
	}
	if err != nil {
		return Format{}, err
	}
	return ParseFormat(string(text))
}

// ParseFormat reads the content of the file FORMAT. An error says which version of the relay can read the queue.
func ParseFormat(text string) (Format, error) {
	f, ok := parseFormat(text)
	switch {
	case !ok:
		return Format{}, fmt.Errorf("file %q reads %q, which no version of the relay writes: put it back from a copy, or use another directory", formatFile, strings.TrimSpace(text))
	case f.newer():
		return Format{}, fmt.Errorf("it was written by a newer version of the relay (%s, this one knows %s): install that version, or use another directory; nothing was touched", f.name(), Current.name())
	case f.unfinished():
		return Format{}, fmt.Errorf("it was written by an unfinished version of the relay (%s, this one knows %s): only that version can read it, so use another directory; nothing was touched", f.name(), Current.name())
	}
	return f, nil
}

// WriteFormat writes the file FORMAT: whole or not at all, and synced with its name.
func (d *Directory) WriteFormat(f Format) error {
	path := filepath.Join(d.path, formatFile)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = d.fault.Before(PlaceFormat); err == nil {
		_, err = fmt.Fprintln(file, f)
	}
	if err = errors.Join(d.fault.After(PlaceFormat, err), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = d.fault.Before(PlaceFormatName); err == nil {
		err = d.fault.After(PlaceFormatName, errors.Join(os.Rename(path+".new", path), d.handle.Sync()))
	}
	return err
}
