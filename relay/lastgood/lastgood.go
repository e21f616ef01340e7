// Package lastgood keeps the last good version of each included file beside the queue, so that a relay that starts with a broken one
// serves what it served before. They are in one file, DIR/included/versions (directories 0700, files 0600: it holds what secrets stand in
// the files), to which a reload adds what has changed; when most of it is out of date it is written anew. A version is a line of JSON
// (its path, its length and its sum), its text and a newline; one that is gone is a line.
package lastgood

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"realtorbot-relay/relay/config"
)

// slack is how many bytes out of date may be there, beside as many as are not.
const slack = 64 << 10

type head struct {
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
	Sum   string `json:"sum,omitempty"`
	Gone  bool   `json:"gone,omitempty"`
}

func directoryIn(queue string) string { return filepath.Join(queue, "included") }

// Read returns the versions that are kept in the queue's directory; none where none ever were. After damage, which the error tells, they
// are those that are whole: of a file whose newest version is not, none.
func Read(queue string) (versions []config.Version, err error) {
	name := filepath.Join(directoryIn(queue), "versions")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var damage error
	texts := map[string]string{}
	var order []string
	for all := len(text); len(text) > 0; {
		line, rest, ok := bytes.Cut(text, []byte{'\n'})
		var h head
		if !ok || json.Unmarshal(line, &h) != nil || h.Bytes < 0 || !h.Gone && (h.Bytes >= len(rest) || rest[h.Bytes] != '\n') {
			damage = errors.Join(damage, fmt.Errorf("%q is damaged: the last %d of its %d bytes are passed over", name, len(text), all))
			break
		}
		if h.Gone {
			delete(texts, h.Path)
			text = rest
			continue
		}
		body := rest[:h.Bytes]
		text = rest[h.Bytes+1:]
		if h.Sum != sum(body) { // an older version is not what was served
			damage = errors.Join(damage, fmt.Errorf("%q is damaged: a version of %q is passed over", name, h.Path))
			delete(texts, h.Path)
			continue
		}
		if _, known := texts[h.Path]; !known {
			order = append(order, h.Path)
		}
		texts[h.Path] = string(body)
	}
	for _, path := range order {
		if body, ok := texts[path]; ok {
			versions = append(versions, config.Version{Path: path, Text: body})
			delete(texts, path) // it may have been gone in between
		}
	}
	return versions, damage
}

func sum(text []byte) string {
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:])
}

// Store writes the versions. It is used by one goroutine at a time.
type Store struct {
	queue   string
	known   bool              // kept is what is on disk
	damaged bool              // nothing may be added to what is there
	kept    map[string]string // texts that are on disk, by path
}

// New is a Store in the directory of a queue, which Save expects to be there.
func New(queue string) *Store { return &Store{queue: queue} }

// Save makes these the versions that are kept. It returns when they are on disk; after an error the next call writes them all.
func (s *Store) Save(versions []config.Version) (err error) {
	if !s.known {
		before, err := Read(s.queue)
		if len(before) == 0 && len(versions) == 0 {
			return err
		}
		s.kept = map[string]string{}
		if s.damaged = err != nil; !s.damaged {
			for _, v := range before {
				s.kept[v.Path] = v.Text
			}
		}
	}
	defer func() { s.known = err == nil }()
	var b bytes.Buffer
	now := make(map[string]string, len(versions))
	var latest int64
	for _, v := range versions {
		now[v.Path] = v.Text
		latest += int64(len(v.Text) + len(v.Path) + 100)
		if before, ok := s.kept[v.Path]; !ok || before != v.Text {
			record(&b, v)
		}
	}
	for path := range s.kept {
		if _, stays := now[path]; !stays {
			line, _ := json.Marshal(head{Path: path, Gone: true}) // texts and numbers can be written
			b.Write(append(line, '\n'))
		}
	}
	if b.Len() == 0 && !s.damaged {
		return nil
	}
	if err := s.write(&b, versions, latest); err != nil {
		return err
	}
	s.kept = now
	return nil
}

func record(b *bytes.Buffer, v config.Version) {
	line, _ := json.Marshal(head{Path: v.Path, Bytes: len(v.Text), Sum: sum([]byte(v.Text))}) // texts and numbers can be written
	b.Write(append(line, '\n'))
	b.WriteString(v.Text)
	b.WriteByte('\n')
}

// write adds what has changed, or writes all anew.
func (s *Store) write(changed *bytes.Buffer, versions []config.Version, latest int64) error {
	directory := directoryIn(s.queue)
	name := filepath.Join(directory, "versions")
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(name); err == nil && !s.damaged && info.Size()+int64(changed.Len()) <= 2*latest+slack {
		return writeTo(name, os.O_APPEND, func(w *bufio.Writer) { _, _ = w.Write(changed.Bytes()) })
	}
	err := writeTo(name+".new", os.O_CREATE|os.O_TRUNC, func(w *bufio.Writer) {
		var b bytes.Buffer
		for _, v := range versions {
			b.Reset()
			record(&b, v)
			_, _ = w.Write(b.Bytes())
		}
	})
	if err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	s.damaged = false
	return errors.Join(syncDirectory(directory), syncDirectory(s.queue))
}

// writeTo writes to a file and returns when that is on disk. The writer remembers its error until it is flushed.
func writeTo(name string, how int, write func(w *bufio.Writer)) error {
	file, err := os.OpenFile(name, os.O_WRONLY|how, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	write(w)
	if err := errors.Join(w.Flush(), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

func syncDirectory(name string) error {
	directory, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
