package queue

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Behind FORMAT a takeover has a log and no store yet. That is none that was lost: nothing is told as damage, at whichever
// step the start before it died.
func TestAStoreThatATakeoverHasNotMadeYetIsNoDamage(t *testing.T) {
	t.Parallel()
	for what, leave := range map[string]func(dir, taken string) error{
		"before the log has its place": func(dir, taken string) error {
			return errors.Join(os.Rename(filepath.Join(dir, logName), filepath.Join(taken, logName)), os.Remove(filepath.Join(dir, markFile)))
		},
		"before the store is made":  func(dir, _ string) error { return os.RemoveAll(filepath.Join(dir, storeName)) },
		"before it is the last one": func(string, string) error { return nil },
	} {
		b := openBench(t, nil)
		all := ids(0, 20)
		b.append(NewLaneSet(b.lane("crm").ID()), all...)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		taken := filepath.Join(b.opts.Dir, takeName)
		if err := errors.Join(os.Mkdir(taken, 0o700), leave(b.opts.Dir, taken)); err != nil {
			t.Fatal(err)
		}
		b.open()
		if n := b.lane("crm").Stats().Pending; n != 20 || b.Stats().Damaged > 0 || b.saw("damaged") || there(taken) {
			t.Errorf("%s: %d are pending, %d damaged, %q; the folder is there: %v", what, n, b.Stats().Damaged, b.said, there(taken))
		}
		if err := errors.Join(b.Close(), os.RemoveAll(filepath.Join(b.opts.Dir, storeName))); err != nil {
			t.Fatal(err)
		}
		b.open()
		if !b.saw("store was damaged: it is missing") || b.Stats().Damaged != 1 {
			t.Errorf("%s: when it is lost later, it says %q", what, b.said)
		}
	}
}
