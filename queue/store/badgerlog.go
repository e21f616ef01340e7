package store

import (
	"fmt"
	"strings"
)

// badgerLogger passes on what Badger warns of, one line each.
type badgerLogger struct{ notice func(string) }

func (l badgerLogger) notify(format string, args []any) {
	l.notice("store: " + strings.TrimSpace(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")))
}

func (l badgerLogger) Errorf(format string, args ...any) { l.notify(format, args) }

func (l badgerLogger) Warningf(format string, args ...any) { l.notify(format, args) }

func (l badgerLogger) Infof(string, ...any) {}

func (l badgerLogger) Debugf(string, ...any) {}
