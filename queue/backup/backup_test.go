package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"realtorbot-relay/scripts/needed"
)

var files = map[string]string{
	"FORMAT":             "a line\n",
	"mark":               strings.Repeat("\x00", 4096),
	"log/0000000001.seg": strings.Repeat("entries and blocks ", 40),
}

// made is a backup of files, with damage if any is told.
func made(t *testing.T, damage ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Contents{Relay: "1.2.3", Events: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"FORMAT", "mark", "log/0000000001.seg"} {
		if err := w.Bytes(name, []byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	for _, what := range damage {
		w.Damaged(what)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func none(string, int64, io.Reader) error { return nil }

func TestABackupReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	raw := made(t, "one thing", "another")
	for what, r := range map[string]io.Reader{
		"at once": bytes.NewReader(raw), "byte by byte": iotest.OneByteReader(bytes.NewReader(raw)), "with its end": iotest.DataErrReader(bytes.NewReader(raw)),
	} {
		got := map[string]string{}
		report, err := Read(r, func(name string, size int64, r io.Reader) error {
			text, err := io.ReadAll(r)
			if got[name] = string(text); int64(len(text)) != size {
				t.Errorf("%s: %s has %d bytes, said were %d", what, name, len(text), size)
			}
			return err
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(files) {
			t.Fatalf("%s: %q, %v", what, got, err)
		}
		if report.Relay != "1.2.3" || report.Events != 7 || report.Stored != int64(len(raw)) || strings.Join(report.Damage, "|") != "one thing|another" {
			t.Errorf("%s: the report is %+v", what, report)
		}
	}
}

// Whatever became of a backup is noticed: any cut, any bit.
func TestABackupThatIsCutOrHasAFlippedBitIsNone(t *testing.T) {
	t.Parallel()
	raw := made(t)
	isRefused := func(err error) bool {
		return errors.Is(err, ErrNone) || errors.Is(err, ErrCut) || errors.Is(err, ErrDamaged)
	}
	for n := range raw {
		if _, err := Read(bytes.NewReader(raw[:n]), none); !isRefused(err) || n > 36 && !errors.Is(err, ErrCut) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(raw), err)
		}
	}
	for at := range raw {
		for bit := range 8 {
			harmed := bytes.Clone(raw)
			harmed[at] ^= 1 << bit
			if _, err := Read(bytes.NewReader(harmed), none); !isRefused(err) {
				t.Errorf("with bit %d of byte %d flipped: %v", bit, at, err)
			}
		}
	}
	seed := rand.Int63()
	r := rand.New(rand.NewSource(seed))
	for range 200 {
		from, to := r.Intn(len(raw)), r.Intn(len(raw))
		from, to = min(from, to), max(from, to)+1
		for what, harmed := range map[string][]byte{
			"zeroed":  append(append(bytes.Clone(raw[:from]), make([]byte, to-from)...), raw[to:]...),
			"missing": append(bytes.Clone(raw[:from]), raw[to:]...),
			"doubled": append(bytes.Clone(raw[:to]), raw[from:]...),
		} {
			if _, err := Read(bytes.NewReader(harmed), none); !isRefused(err) && !bytes.Equal(harmed, raw) {
				t.Errorf("seed %d: bytes %d to %d %s: %v", seed, from, to, what, err)
			}
		}
	}
	for what, text := range map[string]string{"nothing": "", "a text": strings.Repeat("not a backup\n", 99), "more behind it": string(raw) + "x", "two": string(raw) + string(raw)} {
		if _, err := Read(strings.NewReader(text), none); !isRefused(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestErrorsOfReaderAndReceiverArePassedOn(t *testing.T) {
	t.Parallel()
	raw, mine := made(t), errors.New("no")
	if _, err := Read(bytes.NewReader(raw), func(string, int64, io.Reader) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("that of who gets the files: %v", err)
	}
	if _, err := Read(io.MultiReader(bytes.NewReader(raw[:len(raw)/2]), iotest.ErrReader(mine)), none); !errors.Is(err, mine) {
		t.Errorf("that of the reader: %v", err)
	}
}

// No backup, whoever made it, writes beside the files of a queue.
func TestAFileThatIsNoneOfAQueueIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../FORMAT", "/etc/passwd", "log/../../x", "lock", "log/1.seg", "log/0000000001.seg/x", "aside/x"} {
		var out bytes.Buffer
		w, err := NewWriter(&out, Contents{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Bytes(name, []byte("x")), w.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = Read(&out, func(name string, _ int64, _ io.Reader) error { t.Errorf("it gets %q", name); return nil })
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The tools that everybody has read it, should nothing of ours be at hand.
func TestTheCommonToolsReadABackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	needed.Program(t, "zstd")
	cmd := exec.Command("sh", "-c", "zstd -dc | tar x && sha256sum -c SUMS && cat log/0000000001.seg")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(made(t))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), files["log/0000000001.seg"]) || !strings.Contains(string(out), "mark: OK") {
		t.Errorf("%v:\n%s", err, out)
	}
}
