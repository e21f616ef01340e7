package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/reach"
)

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// backup copies what the relay sends, and reads it as it passes: that it came is no proof that it is whole.
func backup(c *call) error {
	from, to := io.Pipe()
	type result struct {
		report queue.BackupReport
		err    error
	}
	read := make(chan result, 1)
	go func() {
		report, err := queue.ExamineBackup(from)
		_, _ = io.Copy(io.Discard, from) // whatever it is, it is written as it came
		read <- result{report, err}
	}()
	out := io.MultiWriter(c.out, to)
	err := c.relay.Copy(c.ctx, "/backup", out)
	if errors.Is(err, reach.ErrAbsent) {
		err = c.backupStopped(out)
	}
	_ = to.Close() // or with an error: what came so far is examined all the same
	it := <-read
	var no *reach.Refused
	var text own
	switch {
	case errors.As(err, &text):
		return err
	case errors.As(err, &no):
		return err
	case err != nil:
		return said("%s: what was written is no backup; remove it, and see the log of the relay at %s", err, c.relay.At)
	case it.err != nil:
		return said("what came can't be restored from: %s; remove it, and see the log of the relay at %s", it.err, c.relay.At)
	}
	if f, ok := c.out.(*os.File); ok {
		if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) { // which no file says
			return said("sync what was written: %s", err)
		}
	}
	fmt.Fprintln(c.aside, reach.Plain(it.report.String()))
	if n := len(it.report.Damage); n > 0 {
		return said("%d things could not be read in the relay's queue, and are not in the backup either:\n%s", n, reach.Plain(strings.Join(it.report.Damage, "\n")))
	}
	return nil
}

// backupStopped is backup where no relay runs.
func (c *call) backupStopped(out io.Writer) error {
	if c.config == nil {
		cfg, err := config.LoadMain(c.file)
		if err != nil {
			return said("%s", err)
		}
		c.config = cfg
	}
	q := &c.config.Queue
	dir, err := queueDir(c.file, q.Dir)
	if err != nil {
		return err
	}
	_, err = queue.BackupStopped(queue.Options{
		Dir: dir, DedupWindow: q.DedupWindow, Retention: q.Retention, FailedRetention: q.FailedRetention,
		Notice: func(line string) { fmt.Fprintln(c.aside, reach.Plain(line)) },
	}, c.version, out)
	switch {
	case errors.Is(err, queue.ErrInUse):
		return said("no relay answers at %s, but one has %q open: wait until its start or stop is over", c.relay.At, dir)
	case err != nil:
		return said("no relay answers at %s, and the queue in %q can't be backed up: %s", c.relay.At, dir, err)
	}
	return nil
}

// restore makes a queue of a backup where the configuration has it.
func restore(c *call) error {
	dir, err := queueDir(c.file, c.config.Queue.Dir)
	if err != nil {
		return err
	}
	report, err := queue.Restore(c.args[0], dir)
	if errors.Is(err, queue.ErrInUse) {
		return said("%q is in use by a relay that runs: stop it first; nothing was written", dir)
	}
	if err != nil {
		return said("%s", err)
	}
	c.say("%s\nrestored into %s. What was delivered since then is delivered again, under the same event ids, and what was accepted since is accepted again when it is posted again. Never start it beside the relay that was backed up: each would deliver what both hold\n",
		&report, dir)
	if n := len(report.Damage); n > 0 {
		c.say("%d things could not be read when the backup was made, and are missing:\n%s\n", n, strings.Join(report.Damage, "\n"))
	}
	return nil
}

// serviceDirectory is the working directory of the installed service.
const serviceDirectory = "/var/lib/realtorbot-relay"

// queueDir is where the relay has its queue. A relative path is relative to its working directory, and of the installed
// service that is known.
func queueDir(path, dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", said("queue.dir: %s", err)
	}
	if path == DefaultConfig && dir != absolute && absolute != filepath.Join(serviceDirectory, dir) {
		return "", said("queue.dir %q is relative to the service's working directory: run this there, with env -C %s", dir, serviceDirectory)
	}
	return absolute, nil
}
