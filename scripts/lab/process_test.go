package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestCPUTimeSurvivesOddProgramNames(t *testing.T) {
	const after = " S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 100\n"
	for _, name := range []string{"relay", "a b", "x) R 9", "(((", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"} {
		got, err := parseCPUTime("4711 (" + name + ")" + after)
		if err != nil || got != 2*time.Second {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	for _, stat := range []string{"", "1 (a", "1 (a) S 1 2", "1 (a)" + strings.Replace(after, "150", "x", 1)} {
		if got, err := parseCPUTime(stat); err == nil {
			t.Errorf("%q: read as %v", stat, got)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	u, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.memory < 1<<20 {
		t.Errorf("anonymous memory %d bytes", u.memory)
	}
	if _, err := readUsage(-1); err == nil {
		t.Error("a process that is none has usage")
	}
}

func TestProcFieldTakesTheWholeName(t *testing.T) {
	const io = "rchar: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n"
	if n, err := procField(io, "write_bytes:"); err != nil || n != 4096 {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := procField(io, "bytes:"); err == nil {
		t.Errorf("a part of a name gave %d", n)
	}
}

func TestFileSystemIsThatOfTheDeepestMount(t *testing.T) {
	const mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\nrootfs / rootfs rw 0 0\n/dev/vda / btrfs rw 0 0\n"
	for path, want := range map[string]string{"/srv": "btrfs", "/tmp": "tmpfs", "/tmp/a": "tmpfs", "/tmpfile": "btrfs", "/tmp/disk/x/y": "xfs"} {
		if got := fileSystemOf(mounts, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := fileSystemOf("", "/srv"); got != "unknown" {
		t.Errorf("without mounts: %s", got)
	}
}
