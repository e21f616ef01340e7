package queue

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file of the store that had fewer blocks than bytes could end the process at a full disk.
func TestAMappedFileHasItsBlocks(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	b.append(NewLaneSet(b.lane("crm").ID()), ids(0, 10)...)
	b.saveAll()
	files := 0
	err := filepath.WalkDir(filepath.Join(b.opts.Dir, "store"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; blocks < info.Size() {
			t.Errorf("%s has %d bytes of blocks, want %d", entry.Name(), blocks, info.Size())
		}
		files++
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
}
