package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func TestUsageIsExitCodeTwo(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"crash"}, {"bench", "-relay", "/nowhere"}, {"load", "-d", "1s", "-url", "http://10.0.0.1/"}, {"load"}, {"receive", "-fail", "200%"}, {"keep-nothing", "-listen", "0.0.0.0:1"}} {
		var usage usageError
		if err := dispatch(t.Context(), args, os.Stderr); !errors.As(err, &usage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"well":          {nil, 0, ""},
		"help":          {flag.ErrHelp, 0, ""},
		"usage":         {fmt.Errorf("start: %w", usageError("no -n")), 2, "lab: no -n\n"},
		"usage, quiet":  {usageError(""), 2, ""},
		"found missing": {errors.New("3 lost"), 1, "lab: 3 lost\n"},
	} {
		var said bytes.Buffer
		if code := exitCode(c.err, &said); code != c.code || said.String() != c.text {
			t.Errorf("%s: exit code %d, %q", name, code, said.String())
		}
	}
}

func TestEveryCommandHasItsPlaceInTheList(t *testing.T) {
	var list bytes.Buffer
	if err := dispatch(context.Background(), []string{"-h"}, &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if !strings.Contains(list.String(), c.name) {
			t.Errorf("%s is not in the list", c.name)
		}
		if err := dispatch(context.Background(), []string{c.name, "-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s -h: %v", c.name, err)
		}
	}
}
