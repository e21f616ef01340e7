package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRowSaysWhetherItMeetsWhatIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		row  row
		text string
	}{
		"enough":     {compared("ingest", "bare-log", []float64{90, 100, 500}, []float64{1, 70, 80}, "events/s", 0.7), "| ingest | bare-log | 100.0 events/s | 70.0 events/s | 0.70 | ratio ≥ 0.70: met |"},
		"short":      {compared("ingest", "bare-log", []float64{100}, []float64{69}, "events/s", 0.7), "ratio ≥ 0.70: **short** |"},
		"not asked":  {compared("ingest", "bare-log", []float64{100}, []float64{10}, "events/s", 0), "| 0.10 | – |"},
		"fast":       {measured("p50", "", 0, 1.5, "ms", 2), "| p50 | – | – | 1.5 ms | – | < 2 ms: met |"},
		"just slow":  {measured("p50", "", 0, 2, "ms", 2), "< 2 ms: **short** |"},
		"with yard":  {measured("p50", "direct", 0.5, 2000, "ms", 0), "| p50 | direct | 0.5 ms | 2000 ms | 4000.00 | – |"},
		"noted base": {row{What: "a", Note: "b", Figure: 1, Unit: "s"}, "| a (b) |"},
	} {
		report := report{Rows: []row{c.row}}
		if got := report.markdown(); !strings.Contains(got, c.text) {
			t.Errorf("%s: %q is not in\n%s", name, c.text, got)
		}
	}
}

func TestSavedReportCanBeReadAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := report{Machine: machine{Cores: 2}, Method: "how", Rows: []row{compared("a", "b", []float64{2}, []float64{1}, "x", 0.7)}}
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(text, &back); err != nil || back.Rows[0].Ratio != 0.5 || *back.Rows[0].Met {
		t.Errorf("%v: %s", err, text)
	}
	if table, err := os.ReadFile(filepath.Join(dir, "bench.md")); err != nil || !strings.Contains(string(table), "| what |") {
		t.Errorf("%v: %s", err, table)
	}
}
