package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration file. It never holds a secret.
type Fault struct {
	File string // as given to Load or Parse
	Line int    // from 1; 0 when it is about something that isn't in the file
	Key  string // like server.listen, endpoint.crm.timeout or, for the second endpoint without a good name, endpoint[2].name
	Text string // what is wrong and what would be right, on one line
}

// String is the fault on one line, as in "config.toml:12: endpoint.crm.timeout: must be …".
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key)
		b.WriteString(": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults is everything wrong with a configuration file, in the order of its lines. It is the error of Load and Parse
// for a file that could be read.
type Faults []Fault

// Error is one line per fault, without a newline at the end.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// sort orders faults by line and leaves those of one line in the order of their discovery.
func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
}
