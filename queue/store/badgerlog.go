package store

import (
	"fmt"
	"strings"
	"sync"
)

// badgerLogger passes on what Badger warns of, one line each. It keeps the lines until pass is called: of a start that is tried
// again, since something is used up, the error says enough. It is safe for concurrent use.
type badgerLogger struct {
	notice func(string)

	mu     sync.Mutex
	kept   []string
	opened bool
}

func (l *badgerLogger) notify(format string, args []any) {
	line := "store: " + strings.TrimSpace(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
	l.mu.Lock()
	if !l.opened {
		l.kept = append(l.kept, line)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.notice(line)
}

// pass passes on what was kept, and from then on each line as it comes.
func (l *badgerLogger) pass() {
	l.mu.Lock()
	kept := l.kept
	l.kept, l.opened = nil, true
	l.mu.Unlock()
	for _, line := range kept {
		l.notice(line)
	}
}

func (l *badgerLogger) Errorf(format string, args ...any) { l.notify(format, args) }

func (l *badgerLogger) Warningf(format string, args ...any) { l.notify(format, args) }

func (l *badgerLogger) Infof(string, ...any) {}

func (l *badgerLogger) Debugf(string, ...any) {}
