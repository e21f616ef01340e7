package main

import (
	"os"
	"path/filepath"
	"testing"
)

func receivedSet(run uint32, seqs ...uint64) map[string]struct{} {
	set := map[string]struct{}{}
	for _, seq := range seqs {
		set[string(appendID(nil, run, seq))] = struct{}{}
	}
	return set
}

func TestCompareTellsLostFromUnknown(t *testing.T) {
	l := ledger{run: 9, acked: []uint64{1, 2, 3}, unknown: []uint64{4, 5}}
	for name, c := range map[string]struct {
		received map[string]struct{}
		want     comparison
	}{
		"all, no unknown":   {receivedSet(9, 1, 2, 3), comparison{Acknowledged: 3}},
		"all, one unknown":  {receivedSet(9, 1, 2, 3, 5), comparison{Acknowledged: 3, UnknownDelivered: 1}},
		"one lost":          {receivedSet(9, 1, 3, 4), comparison{Acknowledged: 3, Lost: 1, UnknownDelivered: 1}},
		"nothing":           {receivedSet(9), comparison{Acknowledged: 3, Lost: 3}},
		"one never sent":    {receivedSet(9, 1, 2, 3, 6), comparison{Acknowledged: 3, NeverSent: 1}},
		"of another run":    {receivedSet(8, 1, 2, 3), comparison{Acknowledged: 3, Lost: 3, NeverSent: 3}},
		"a foreign id, too": {map[string]struct{}{"evt_abc123": {}}, comparison{Acknowledged: 3, Lost: 3, NeverSent: 1}},
	} {
		if got := l.compare(c.received); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestControlMakesCompareReportOneLost(t *testing.T) {
	l := ledger{run: 9, acked: []uint64{1, 2, 3}, unknown: []uint64{4}}
	received := receivedSet(9, 1, 2, 3, 4)
	id := l.dropOne(received)
	if _, there := received[id]; id == "" || there {
		t.Fatalf("dropped %q of %v", id, received)
	}
	if got, want := l.compare(received), (comparison{Acknowledged: 3, Lost: 1, UnknownDelivered: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if id := l.dropOne(receivedSet(9, 4)); id != "" {
		t.Errorf("dropped %q, which was not acknowledged", id)
	}
}

func TestLedgerFileHoldsAcknowledgedIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acked")
	l := ledger{run: 0xff, acked: []uint64{2, 10}, unknown: []uint64{3}}
	if err := l.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "evt_000000ff_000000002\nevt_000000ff_000000010\n"; string(text) != want {
		t.Errorf("got %q, want %q", text, want)
	}
}
