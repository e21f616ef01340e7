package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"

	"realtorbot-relay/queue/codec"
)

// Errors of Read for a stream from which nothing can be restored.
var (
	// ErrNone: it does not begin as a backup does.
	ErrNone = errors.New("it is not a backup of a relay, or its beginning is missing")
	// ErrCut: it has no end.
	ErrCut = errors.New("it is cut short")
	// ErrDamaged: it is not what was written.
	ErrDamaged = errors.New("it is damaged")
)

// packedMagic is the beginning of every zstd stream.
const packedMagic = "\x28\xb5\x2f\xfd"

// maxText bounds what is read of the files about the backup itself.
const maxText = 64 << 20

// queueFile is how a queue's file may be called. Nothing else is ever written to a directory.
var queueFile = regexp.MustCompile(`^(FORMAT|mark|log/[0-9]{10,20}\.seg)$`)

// endReader reads all of a stream but its end.
type endReader struct {
	r     io.Reader
	tail  []byte  // bytes that were read and may be the end
	first [4]byte // bytes of the stream
	n     int64
	sum   uint32
	err   error
}

func (e *endReader) Read(p []byte) (int, error) {
	for e.err == nil && len(e.tail) <= endSize {
		from := len(e.tail)
		e.tail = append(e.tail, make([]byte, 64<<10)...)
		var n int
		n, e.err = e.r.Read(e.tail[from:])
		e.tail = e.tail[:from+n]
	}
	n := copy(p, e.tail[:max(len(e.tail)-endSize, 0)])
	if n == 0 && len(p) > 0 {
		return 0, e.err
	}
	if e.n < int64(len(e.first)) {
		copy(e.first[e.n:], p[:n])
	}
	e.n += int64(n)
	e.sum = crc32.Update(e.sum, codec.Castagnoli, p[:n])
	e.tail = e.tail[:copy(e.tail, e.tail[n:])]
	return n, nil
}

// finish reads what is left, and returns how the stream ends.
func (e *endReader) finish() error {
	if _, err := io.Copy(io.Discard, e); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	switch {
	case len(e.tail) == endSize && bytes.Equal(e.tail, appendEnd(nil, e.n, e.sum)):
		return nil
	case len(e.tail) == endSize && string(e.tail[8:8+len(endName)]) == endName:
		return ErrDamaged
	}
	return ErrCut
}

// Read reads a backup to its end and verifies all of it. It calls each with every file of the queue, in order; each reads
// what it needs, and what it did counts only when Read returns no error. Errors are ErrNone, ErrCut or ErrDamaged with
// details, that of each, or that of r.
func Read(r io.Reader, each func(name string, size int64, r io.Reader) error) (report Report, err error) {
	e := &endReader{r: r}
	var fault error // of each
	found, err := readFiles(e, &fault, each)
	if fault != nil {
		return report, fault
	}
	end := e.finish()
	switch {
	case errors.Is(end, ErrCut) && string(e.first[:]) != packedMagic:
		return report, ErrNone
	case errors.Is(end, ErrCut):
		return report, fmt.Errorf("%w: it has no end, %d bytes came", ErrCut, e.n+int64(len(e.tail)))
	case errors.Is(end, ErrDamaged):
		return report, fmt.Errorf("%w: its %d bytes are not those that were written", ErrDamaged, e.n+int64(len(e.tail)))
	case end != nil:
		return report, end
	case err != nil:
		return report, err
	}
	found.Stored = e.n + endSize
	return found, nil
}

// readFiles reads the archive. fault gets an error of each.
func readFiles(e *endReader, fault *error, each func(string, int64, io.Reader) error) (report Report, err error) {
	unpacked, err := zstd.NewReader(e, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(window))
	if err != nil {
		return report, err
	}
	defer unpacked.Close()
	files := tar.NewReader(unpacked)
	var sums bytes.Buffer
	last := ""
	for first := true; ; first = false {
		h, err := files.Next()
		if err == io.EOF && last == sumsName {
			break
		}
		switch {
		case err != nil && first:
			return report, ErrNone
		case err != nil:
			return report, fmt.Errorf("%w: %w", ErrDamaged, err)
		case first && h.Name != contentsName:
			return report, ErrNone
		case last == sumsName:
			return report, fmt.Errorf("%w: %q is behind its sums", ErrDamaged, h.Name)
		}
		last = h.Name
		sum := sha256.New()
		content := io.TeeReader(files, sum)
		switch {
		case h.Name == contentsName || h.Name == damageName || h.Name == sumsName:
			text, err := io.ReadAll(io.LimitReader(content, maxText))
			if err != nil {
				return report, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			if err := report.readText(h.Name, text, sums.Bytes()); err != nil {
				return report, err
			}
		case h.Typeflag != tar.TypeReg || !queueFile.MatchString(h.Name):
			return report, fmt.Errorf("%w: it has %q, which is not a file of a queue", ErrDamaged, h.Name)
		default:
			read := &errorReader{r: content}
			if err := each(h.Name, h.Size, read); err != nil && read.err == nil {
				*fault = err
				return report, err
			}
			if _, err := io.Copy(io.Discard, read); err != nil {
				return report, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
		}
		appendSum(&sums, h.Name, sum)
	}
	if n, err := io.Copy(io.Discard, unpacked); n > 0 || err != nil {
		return report, fmt.Errorf("%w: there is more behind its files", ErrDamaged)
	}
	return report, nil
}

// errorReader remembers the error of the reader below.
type errorReader struct {
	r   io.Reader
	err error
}

func (s *errorReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// readText reads a file about the backup itself.
func (r *Report) readText(name string, text, sums []byte) error {
	switch name {
	case contentsName:
		if err := json.Unmarshal(text, &r.Contents); err != nil {
			return fmt.Errorf("%w: %w", ErrNone, err)
		}
	case damageName:
		r.Damage = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	case sumsName:
		if !bytes.Equal(text, sums) {
			return fmt.Errorf("%w: the sums of its files do not match", ErrDamaged)
		}
	}
	return nil
}
