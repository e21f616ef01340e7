package simulate

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"realtorbot-relay/queue/journal"
	"realtorbot-relay/queue/log"
	"realtorbot-relay/queue/store"
)

// A power cut keeps what was synced, any sectors of what was not, and the store as it is or as it was at any commit since the image
// was made. The image begins as a copy of everything: a disk may write what it likes at any time.

const sector = 512

// areas says which files a sync makes durable, by where the queue asks.
var areas = map[string]string{
	journal.PlaceFill: "journal", journal.PlaceSlotName: "journal", journal.PlaceSync: "journal",
	log.PlaceHeader: "log", log.PlaceName: "log", log.PlaceSync: "log", log.PlaceSeal: "log", log.PlaceFooter: "", log.PlaceRewrite: "log",
	log.PlaceRename: "log", log.PlaceDelete: "log", log.PlaceUnlink: "log", log.PlaceShorten: "log",
	store.AtCommit: "store",
}

// expectCut begins an image of the disk.
func (d *disk) expectCut(image string) error {
	d.freeze()
	defer d.thaw()
	if err := copyTree(image, d.dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.image = image
	return nil
}

// keepLocked has the image follow a sync.
func (d *disk) keepLocked(place string) {
	area := areas[place]
	if area == "" && place == "sync of the mark" {
		_ = copyFile(filepath.Join(d.image, "mark"), filepath.Join(d.dir, "mark"))
	}
	if area != "" {
		mustReplace(filepath.Join(d.image, area), filepath.Join(d.dir, area))
	}
}

func mustReplace(to, from string) {
	if err := errors.Join(os.RemoveAll(to), copyTree(to, from)); err != nil {
		panic(err)
	}
}

// cut makes of a copy of the disk what is left of it when the power goes.
func (d *disk) cut(dir string, r *rand.Rand) error {
	odds := r.IntN(5) // of four
	if r.IntN(2) == 0 {
		mustReplace(filepath.Join(dir, "store"), filepath.Join(d.image, "store"))
	}
	for _, area := range []string{"journal", "log", "mark"} {
		err := filepath.WalkDir(filepath.Join(dir, area), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			kept, err := os.ReadFile(filepath.Join(d.image, strings.TrimPrefix(path, dir)))
			if errors.Is(err, fs.ErrNotExist) && r.IntN(4) >= odds {
				return os.Remove(path) // its name was not synced
			}
			now, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for at := 0; at < len(now); at += sector {
				end := min(at+sector, len(now))
				var old [sector]byte
				if at < len(kept) {
					copy(old[:], kept[at:min(end, len(kept))])
				}
				if string(now[at:end]) != string(old[:end-at]) && r.IntN(4) >= odds {
					copy(now[at:end], old[:])
				}
			}
			return os.WriteFile(path, now, 0o600)
		})
		if err != nil {
			return err
		}
		// What was deleted, and not synced as deleted, may be back.
		list, _ := filepath.Glob(filepath.Join(d.image, area, "*"))
		for _, old := range list {
			path := filepath.Join(dir, strings.TrimPrefix(old, d.image))
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && r.IntN(4) >= odds {
				if err := copyFile(path, old); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
