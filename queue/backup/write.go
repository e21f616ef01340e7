package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"realtorbot-relay/queue/codec"
)

// Names of the files about the backup itself.
const (
	contentsName = "BACKUP"
	damageName   = "DAMAGE"
	sumsName     = "SUMS"
)

const (
	endMagic = 0x184D2A5B // a skippable frame of zstd
	endName  = "RBBACKUP"
	endSize  = 32
	// window bounds the memory that writing and reading take.
	window = 1 << 20
)

// Writer writes a backup. One goroutine uses it. After an error nothing more can be written, and what was written is no
// backup.
type Writer struct {
	to     summedWriter
	packed *zstd.Encoder
	files  *tar.Writer
	sums   bytes.Buffer
	damage bytes.Buffer
}

// summedWriter counts and sums up what is written.
type summedWriter struct {
	w   io.Writer
	n   int64
	sum uint32
}

func (s *summedWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	s.sum = crc32.Update(s.sum, codec.Castagnoli, p[:n])
	return n, err
}

// NewWriter begins a backup on w.
func NewWriter(w io.Writer, c Contents) (*Writer, error) {
	b := &Writer{to: summedWriter{w: w}}
	var err error
	// The work of one goroutine beside a relay that serves; the blocks are packed already, and higher levels gain little.
	b.packed, err = zstd.NewWriter(&b.to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return nil, err
	}
	b.files = tar.NewWriter(b.packed)
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	return b, b.Bytes(contentsName, append(text, '\n'))
}

// Bytes writes a small file.
func (b *Writer) Bytes(name string, raw []byte) error {
	return b.File(name, int64(len(raw)), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// File writes a file of size bytes, all of which fill must write.
func (b *Writer) File(name string, size int64, fill func(io.Writer) error) error {
	if err := b.files.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	sum := sha256.New()
	if err := fill(io.MultiWriter(b.files, sum)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	appendSum(&b.sums, name, sum)
	return nil
}

func appendSum(to *bytes.Buffer, name string, sum hash.Hash) {
	fmt.Fprintf(to, "%x  %s\n", sum.Sum(nil), name)
}

// Damaged notes, in one line, what could not be read and is not in the backup as it was.
func (b *Writer) Damaged(what string) { fmt.Fprintln(&b.damage, what) }

// Close ends the backup, which is whole when it returns nil. It does not close what the Writer writes to.
func (b *Writer) Close() error {
	if b.damage.Len() > 0 {
		if err := b.Bytes(damageName, b.damage.Bytes()); err != nil {
			return err
		}
	}
	if err := b.Bytes(sumsName, bytes.Clone(b.sums.Bytes())); err != nil {
		return err
	}
	if err := b.files.Close(); err != nil {
		return err
	}
	if err := b.packed.Close(); err != nil {
		return err
	}
	_, err := b.to.w.Write(appendEnd(nil, b.to.n, b.to.sum))
	return err
}

func appendEnd(dst []byte, n int64, sum uint32) []byte {
	from := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, endMagic)
	dst = binary.LittleEndian.AppendUint32(dst, endSize-8)
	dst = append(dst, endName...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return binary.LittleEndian.AppendUint32(dst, codec.Sum(dst[from:]))
}
