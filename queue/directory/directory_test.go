package directory

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// claimUnforked claims a directory while no child is on its way from fork to exec: until then a child has every file that
// its parent had, and with them the locks of a directory that was closed meanwhile.
func claimUnforked(path string, create bool) (*Directory, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return Claim(path, create, nil)
}

func mustClaim(t *testing.T, path string) *Directory {
	t.Helper()
	d, err := claimUnforked(path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func tempDir(t *testing.T) string { return filepath.Join(t.TempDir(), "above", "data") }

func TestADirectoryHasOneOwner(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	d := mustClaim(t, path)
	if !d.Fresh() || d.Path() != path {
		t.Errorf("a new one is fresh: %v, its path %q", d.Fresh(), d.Path())
	}
	for range 2 {
		if _, err := claimUnforked(path, true); !errors.Is(err, ErrInUse) {
			t.Errorf("a second claim says %v", err)
		}
	}
	must(t, d.Close())
	mustClaim(t, path)
}

// The file that format 1 locks is no part of who owns the directory.
func TestARemovedLockFileLetsNobodyIn(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	mustClaim(t, path)
	must(t, os.Remove(filepath.Join(path, lockFile)))
	if _, err := claimUnforked(path, true); !errors.Is(err, ErrInUse) {
		t.Errorf("a second claim says %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, lockFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("whoever was refused has written to it: %v", err)
	}
}

// A binary of format 1 locks the file alone.
func TestFormat1IsKeptOutAndKeepsOut(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	d := mustClaim(t, path)
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("beside us format 1 gets %v", err)
	}
	must(t, d.Close(), unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if _, err := claimUnforked(path, true); !errors.Is(err, ErrInUse) {
		t.Errorf("beside format 1 a claim says %v", err)
	}
	must(t, f.Close())
	mustClaim(t, path)
}

// TestMain is the other process of the test below: it claims, says so and waits for its end.
func TestMain(m *testing.M) {
	if path := os.Getenv("DIRECTORY_TEST_CLAIM"); path != "" {
		_, err := Claim(path, true, nil)
		_, _ = os.Stdout.WriteString(errors.Join(err, errors.New("claimed")).Error() + "\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startOther starts a process with a directory of its own, and returns what it says and what ends it.
func startOther(t *testing.T, path string) (said string, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DIRECTORY_TEST_CLAIM="+path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	end = func() { _ = cmd.Process.Kill(); _ = in.Close(); _ = cmd.Wait() }
	t.Cleanup(end)
	said, err = bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(said), end
}

func TestADeadProcessOwnsNothing(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	said, end := startOther(t, path)
	if said != "claimed" {
		t.Fatalf("the other process says %q", said)
	}
	if _, err := claimUnforked(path, true); !errors.Is(err, ErrInUse) {
		t.Errorf("beside it a claim says %v", err)
	}
	end()
	mustClaim(t, path)
}

// A child that runs on after us keeps no lock of ours.
func TestAChildInheritsNoLock(t *testing.T) {
	t.Parallel()
	path := tempDir(t)
	d := mustClaim(t, path)
	if said, _ := startOther(t, tempDir(t)); said != "claimed" {
		t.Fatalf("the other process says %q", said)
	}
	must(t, d.Close())
	mustClaim(t, path)
}

func TestWithoutCreateThereMustBeAQueue(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(path string) error{
		"missing":        func(string) error { return nil },
		"empty":          func(path string) error { return os.MkdirAll(path, 0o700) },
		"a mount's root": func(path string) error { return os.MkdirAll(filepath.Join(path, "lost+found"), 0o700) },
		"empty rooms":    func(path string) error { return os.MkdirAll(filepath.Join(path, "journal"), 0o700) },
	} {
		path := tempDir(t)
		must(t, make(path))
		_, err := claimUnforked(path, false)
		if !errors.Is(err, ErrNoQueue) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "is the file system mounted?") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: claim says %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(path, lockFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it was written to: %v", what, err)
		}
		if d := mustClaim(t, path); !d.Fresh() {
			t.Errorf("%s: with create it is not fresh", what)
		}
	}
	for _, kept := range []string{"FORMAT", "store/MANIFEST", "log/1.seg", "journal/slot-00"} {
		path := tempDir(t)
		must(t, os.MkdirAll(filepath.Join(path, filepath.Dir(kept)), 0o700), os.WriteFile(filepath.Join(path, kept), nil, 0o600))
		d, err := claimUnforked(path, false)
		must(t, err)
		if d.Fresh() {
			t.Errorf("with %s it is fresh", kept)
		}
		must(t, d.Close())
	}
}

// The path is looked at as long as the queue is open.
func TestCheckTellsWhatBecameOfTheDirectory(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what string
		harm func(path string) error
		says string
	}{
		{"removed", os.RemoveAll, "was removed while"},
		{"removed and made again", func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) }, "something else is in its place"},
		{"renamed", func(path string) error { return os.Rename(path, path+".old") }, "was renamed"},
		{"renamed above", func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") }, "was renamed"},
		{"replaced", func(path string) error { return errors.Join(os.Rename(path, path+".old"), os.Mkdir(path, 0o700)) }, "renamed and replaced"},
		{"made a file", func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600))
		}, "renamed and replaced"},
		{"beyond reach", func(path string) error {
			above := filepath.Dir(path)
			return errors.Join(os.Rename(above, above+".old"), os.WriteFile(above, nil, 0o600))
		}, "can't be reached any more"},
		{"mounted over", func(path string) error { return errors.Join(os.Rename(path, path+".old"), os.Symlink("/proc", path)) }, "on another file system"},
	} {
		path := tempDir(t)
		d := mustClaim(t, path)
		must(t, d.Check())
		must(t, test.harm(path))
		err := d.Check()
		if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: check says %v", test.what, err)
		}
	}
	// What is put back is the directory again, and another name for it does as well.
	path := tempDir(t)
	d := mustClaim(t, path)
	must(t, os.Rename(path, path+".old"))
	if d.Check() == nil {
		t.Error("it is not noticed that it was renamed")
	}
	must(t, os.Symlink(path+".old", path), d.Check())
}

// Where the file system has no locks the caller gets the directory and an error that says so.
func TestAFileSystemWithoutLocksIsTold(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EPERM, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK} {
		path := tempDir(t)
		refuse := func(int, int) error { return errno }
		d, err := claim(path, true, nil, refuse)
		if !errors.Is(err, ErrNoLocks) || d == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("with %v it says %v", errno, err)
		}
		must(t, d.Check(), d.WriteFormat(format), d.Close())
		// One of two locks is enough, and a file that is in use is in use.
		for n, want := range map[int]error{1: nil, 2: nil} {
			asked := 0
			d, err := claim(path, true, nil, func(int, int) error {
				if asked++; asked == n {
					return errno
				}
				return nil
			})
			if err != want {
				t.Fatalf("with lock %d refused it says %v", n, err)
			}
			must(t, d.Close())
		}
		asked := 0
		if d, err := claim(path, true, nil, func(int, int) error {
			if asked++; asked == 1 {
				return errno
			}
			return unix.EWOULDBLOCK
		}); !errors.Is(err, ErrInUse) || d != nil {
			t.Errorf("with the file in use it says %v", err)
		}
		if d, err := claim(tempDir(t), false, nil, refuse); !errors.Is(err, ErrNoQueue) || d != nil {
			t.Errorf("where there is none it says %v", err)
		}
	}
	if d, err := claim(tempDir(t), true, nil, func(int, int) error { return unix.EIO }); !errors.Is(err, unix.EIO) || d != nil {
		t.Errorf("with EIO it says %v", err)
	}
}

func TestClaimInterruptedAsksAgain(t *testing.T) {
	t.Parallel()
	asked := 0
	d, err := claim(tempDir(t), true, nil, func(int, int) error {
		if asked++; asked == 1 {
			return unix.EINTR
		}
		return nil
	})
	must(t, err, d.Close())
}
