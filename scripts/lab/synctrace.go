// synctrace tries to break the promise that a sync precedes each 200: it reads the order of writes, syncs and answers
// from a trace.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const tracedConns = 32

func runSynctrace(ctx context.Context, args []string, out io.Writer) error {
	fs := newFlags("synctrace", "Has strace write down every write and sync of a relay under load, and checks that each answer 200 was preceded by a sync that had\n"+
		"begun after its event was in the journal. Then takes one sync out of the trace, which must be noticed. Exit code 1 otherwise.")
	var s site
	s.flags(fs)
	count := fs.Uint64("n", 10_000, "`events`")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return unableError("strace is not installed")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	trace, err := traceRelay(ctx, &s, *count)
	if err != nil {
		return err
	}
	verdict, err := judgeTrace(bytes.NewReader(trace))
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(verdict); err != nil {
		return err
	}
	doctored, err := judgeTrace(bytes.NewReader(dropOneSync(trace)))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d answers in the trace, %d syncs of the journal: %d answers without a sync before them; with one sync taken out of the trace %d\n",
		verdict.Answers, verdict.Syncs, verdict.Uncovered, doctored.Uncovered)
	switch {
	case verdict.Uncovered > 0:
		return fmt.Errorf("%d answers left before their events were synced, the first for %s", verdict.Uncovered, verdict.First)
	case verdict.Bare > 0 || verdict.Reused > 0:
		return fmt.Errorf("%d records stand behind headers that were not synced, %d slots began anew before the log had what they held", verdict.Bare, verdict.Reused)
	case verdict.Answers < int(*count) || verdict.Unseen > 0:
		return fmt.Errorf("the trace has %d answers of %d, %d without their writes: it is not whole", verdict.Answers, *count, verdict.Unseen)
	case doctored.Uncovered == 0:
		return errors.New("the control passed with a sync missing: this run shows nothing")
	}
	return nil
}

// traceRelay posts events to a relay that strace looks at, and returns the trace.
func traceRelay(ctx context.Context, s *site, count uint64) ([]byte, error) {
	receivers, err := newPair()
	if err != nil {
		return nil, err
	}
	defer receivers.close()
	r, err := s.newRelay("relay", receivers.endpoints())
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "trace")
	// Strings as long as a frame can get: every event of a write must be in the trace.
	r.under = []string{"strace", "-D", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "2000000", "-e", "signal=none", "-e", "trace=pwrite64,write,fdatasync,io_submit,io_getevents", "-o", file}
	if _, err := r.start(ctx); err != nil {
		return nil, err
	}
	defer func() { r.proc.kill() }()
	if _, _, err := postAll(ctx, loadPlan{addr: r.ingest, path: "/events", conns: tracedConns, count: count, duration: 5 * time.Minute}, newRun()); err != nil {
		return nil, err
	}
	if err := r.stop(); err != nil {
		return nil, err
	}
	return wholeTrace(ctx, file)
}

// wholeTrace reads a file that the tracer, which is not our child, may still be writing.
func wholeTrace(ctx context.Context, file string) (trace []byte, err error) {
	for quiet := 0; quiet < 5; {
		before := len(trace)
		if trace, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read trace: %w", err)
		}
		if quiet++; len(trace) != before {
			quiet = 0
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return trace, nil
}
