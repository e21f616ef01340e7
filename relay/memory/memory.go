// Package memory knows how much memory this process may use, keeps it within that, and counts what is about to be allocated.
package memory

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Available is how many bytes this process may use at most: those of the machine, or fewer in a control group with a limit.
// Zero when neither can be told. It reads /proc and the control groups each time.
func Available() uint64 {
	machine := uint64(math.MaxUint64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		machine = uint64(info.Totalram) * uint64(info.Unit)
	}
	least := min(machine, limit(os.DirFS("/")))
	if least == math.MaxUint64 {
		return 0
	}
	return least
}

// limit is the lowest limit of the control groups that the process is in, the largest number when there is none. root is the
// root of the file system. A group within a namespace may have another path there than the process sees: what is not found is
// looked for further up, where the namespace's own root is.
func limit(root fs.FS) uint64 {
	least := uint64(math.MaxUint64)
	membership, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(membership)) {
		// hierarchy:controllers:path, as cgroups(7) has it
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var places []string // of the hierarchy's root
		file := "memory.max"
		switch {
		case parts[0] == "0" && parts[1] == "":
			places = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
		case hasController(parts[1], "memory"):
			places, file = []string{"sys/fs/cgroup/memory"}, "memory.limit_in_bytes"
		}
		for _, place := range places {
			for group := path.Clean("/" + parts[2]); ; group = path.Dir(group) {
				least = min(least, readLimit(root, path.Join(place, group, file)))
				if group == "/" {
					break
				}
			}
		}
	}
	return least
}

func hasController(list, name string) bool {
	for controller := range strings.SplitSeq(list, ",") {
		if controller == name {
			return true
		}
	}
	return false
}

// readLimit reads a number of bytes; "max", a file that is not there and the first version's page-aligned infinity are none.
func readLimit(root fs.FS, name string) uint64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n == 0 {
		return math.MaxUint64
	}
	return n
}
