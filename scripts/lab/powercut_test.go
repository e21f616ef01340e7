package main

import (
	"errors"
	"strings"
	"testing"
)

func TestPowercutIsJudgedWithItsControl(t *testing.T) {
	broken := errors.New("it does not open")
	tests := []struct {
		name    string
		syncing bool
		found   aftermath
		err     error
		fault   string
	}{
		{"all there", true, aftermath{Acknowledged: 10, Repeats: 3}, nil, ""},
		{"lost", true, aftermath{Acknowledged: 10, Lost: 1}, nil, "1 lost"},
		{"not known any more", true, aftermath{Acknowledged: 10, Forgotten: 2}, nil, "2 forgotten"},
		{"damaged", true, aftermath{Acknowledged: 10, Damaged: 1}, nil, "1 damaged"},
		{"does not open", true, aftermath{Acknowledged: 10}, broken, "1 disks not opened it does not open"},
		{"control that lost", false, aftermath{Acknowledged: 10, Lost: 9}, nil, ""},
		{"control beyond opening", false, aftermath{Acknowledged: 10}, broken, ""},
		{"control that lost nothing", false, aftermath{Acknowledged: 10}, nil, "shows nothing"},
	}
	for _, test := range tests {
		result := powercutResult{Way: "ext4", Syncing: test.syncing}
		result.add(test.found, test.err)
		err := result.judge()
		if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fault)
		}
	}
}
