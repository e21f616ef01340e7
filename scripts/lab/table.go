package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// row is one line of the bench's table.
type row struct {
	What      string    `json:"what"`
	Yardstick string    `json:"yardstick,omitempty"` // what the relay is held against
	Base      float64   `json:"base,omitempty"`      // the yardstick's figure
	Figure    float64   `json:"figure"`              // the relay's
	Unit      string    `json:"unit"`
	Ratio     float64   `json:"ratio,omitempty"` // figure / base
	Asked     string    `json:"asked,omitempty"` // such as "ratio ≥ 0.70"
	Met       *bool     `json:"met,omitempty"`   // nil when nothing is asked
	Held      *bool     `json:"held,omitempty"`  // of a row that a run does not fail for as soon as it is short; else nil
	Rounds    []float64 `json:"rounds,omitempty"`
	BaseRound []float64 `json:"base_rounds,omitempty"`
	Note      string    `json:"note,omitempty"`
}

// compared makes a row out of the medians of rounds that took turns; least is the ratio asked for, 0 for none.
func compared(what, yardstick string, base, figure []float64, unit string, least float64) row {
	r := row{
		What: what, Yardstick: yardstick, Unit: unit,
		Base: median(base), Figure: median(figure), BaseRound: base, Rounds: figure,
	}
	if r.Base > 0 {
		r.Ratio = r.Figure / r.Base
	}
	if least > 0 {
		met := r.Ratio >= least
		r.Asked, r.Met = fmt.Sprintf("ratio ≥ %.2f", least), &met
	}
	return r
}

// measured makes a row of one figure; most is the limit asked for, 0 for none. base 0 means that there is no yardstick.
func measured(what, yardstick string, base, figure float64, unit string, most float64) row {
	r := row{What: what, Yardstick: yardstick, Base: base, Figure: figure, Unit: unit}
	if base > 0 {
		r.Ratio = figure / base
	}
	if most > 0 {
		met := figure < most
		r.Asked, r.Met = fmt.Sprintf("< %g %s", most, unit), &met
	}
	return r
}

// orAtLeast holds a row that asks for a ratio to a figure as well: one of the two is enough.
func (r row) orAtLeast(figure float64) row {
	met := r.Figure >= figure || *r.Met
	r.Asked, r.Met = fmt.Sprintf("%s or %.0f %s", r.Asked, figure, r.Unit), &met
	return r
}

// heldTo lets a run pass with a row that is short of what is asked, as long as it is not beyond a limit.
func (r row) heldTo(limit string, held bool) row {
	r.Asked, r.Held = fmt.Sprintf("%s, held to %s", r.Asked, limit), &held
	return r
}

// fails reports whether a run must not pass with the row.
func (r row) fails() bool {
	if r.Held != nil {
		return !*r.Held
	}
	return r.Met != nil && !*r.Met
}

// report is the whole of a bench.
type report struct {
	Machine machine `json:"machine"`
	Method  string  `json:"method"`
	Rows    []row   `json:"rows"`
}

// markdown is the report as a table with the machine above it.
func (r *report) markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%d cores, Linux %s, data on %s (fdatasync of a 4 KiB append: %.2f ms, p99 %.2f ms), %s, commit %s, %s.\n",
		m.Cores, m.Kernel, m.FileSystem, float64(m.Fdatasync.P50us)/1000, float64(m.Fdatasync.P99us)/1000, m.Go, m.Commit, m.Time)
	fmt.Fprintf(&b, "%s\n\n", r.Method)
	b.WriteString("| what | yardstick | its figure | relay | ratio | asked |\n| --- | --- | ---: | ---: | ---: | --- |\n")
	for _, w := range r.Rows {
		yardstick, base, ratio, asked := "–", "–", "–", "–"
		if w.Yardstick != "" {
			yardstick, base = w.Yardstick, figureText(w.Base, w.Unit)
		}
		if w.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", w.Ratio)
		}
		if w.Met != nil {
			asked = w.Asked + ": " + map[bool]string{true: "met", false: "**short**"}[*w.Met]
		}
		what := w.What
		if w.Note != "" {
			what += " (" + w.Note + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", what, yardstick, base, figureText(w.Figure, w.Unit), ratio, asked)
	}
	return b.String()
}

func figureText(v float64, unit string) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	default:
		return fmt.Sprintf("%.3g %s", v, unit)
	}
}

// save writes bench.md and bench.json into dir, which is made when missing.
func (r *report) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make output directory: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.md"), []byte(r.markdown()), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
