package admin

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is what this process uses, as the kernel counts it. What can't be told is 0.
type process struct {
	cpu                   time.Duration
	resident, anonymous   int64 // bytes
	openFiles, filesLimit int64
}

func readProcess() (p process) {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		p.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		p.resident, p.anonymous = kibibytes(status, "VmRSS:"), kibibytes(status, "RssAnon:")
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.openFiles = int64(len(files)) - 1 // the directory itself
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		p.filesLimit = int64(limit.Cur)
	}
	return p
}

// kibibytes finds a figure of /proc/self/status and returns it in bytes.
func kibibytes(status []byte, name string) int64 {
	_, rest, found := bytes.Cut(status, []byte("\n"+name))
	if !found {
		return 0
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
