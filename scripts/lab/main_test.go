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

// Who opens the file of a command reads first which promise it tries to break, or what it measures.
func TestFilesOfCommandsSayFirstWhatTheyBreak(t *testing.T) {
	found := 0
	for _, c := range commands {
		text, err := os.ReadFile(c.name + ".go")
		if err != nil {
			continue // its command is in a file of another
		}
		if strings.HasPrefix(string(text), "// "+c.name+" tries to break ") || strings.HasPrefix(string(text), "// "+c.name+" measures ") {
			found++
		} else if !strings.Contains("receive load ask attackers", c.name) { // what others are made of
			t.Errorf("%s.go begins with %.60q", c.name, text)
		}
	}
	if found < 20 {
		t.Errorf("%d files say it", found)
	}
}
