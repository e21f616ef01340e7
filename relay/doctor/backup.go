package doctor

import (
	"fmt"
	"io"
	"os"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/exit"
	"realtorbot-relay/relay/reach"
)

// Backup reads a backup to its end and writes what it holds, or what is wrong with it, in the form of Examine. It returns how
// to exit.
func Backup(path string, stdout io.Writer) int {
	code := exit.Well
	for _, f := range examineBackup(path) {
		if f.verdict == fail {
			code = exit.Failed
		}
		fmt.Fprintf(stdout, "%-4s  %-12s  %s\n", f.verdict, f.about, reach.Plain(f.says))
	}
	return code
}

func examineBackup(path string) (findings []finding) {
	file, err := os.Open(path)
	if err != nil {
		return []finding{{fail, "backup", fmt.Sprintf("%q: %s", path, reason(err))}}
	}
	defer file.Close()
	report, err := queue.ExamineBackup(file)
	if err != nil {
		return []finding{{fail, "backup", fmt.Sprintf("%q: %s: nothing can be restored from it; make another", path, err)}}
	}
	findings = append(findings, finding{ok, "backup", report.String()})
	for _, e := range report.Endpoints {
		says := fmt.Sprintf("%s: %d pending, %d retrying, %d failed", e.Name, e.Pending, e.Retrying, e.Failed)
		if e.Paused != "" {
			says += "; paused: " + e.Paused
		}
		findings = append(findings, finding{ok, "endpoint", says})
	}
	for _, what := range report.Damage {
		findings = append(findings, finding{warn, "damage", what + ": it could not be read when the backup was made, and is missing in it"})
	}
	return findings
}
