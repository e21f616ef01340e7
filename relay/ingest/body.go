package ingest

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/memory"
)

const (
	// firstBytes is the room that a body gets at once; beyond it, room is given for what came, not for what was announced.
	firstBytes = 16 << 10
	// readBytes is how much is read, or unpacked, before others have the processor.
	readBytes = 64 << 10
	// gzipBytes is what decompressing gzip takes besides: a window, and the tables of the codes (44 KB measured).
	gzipBytes = 64 << 10
	// zstdWindow is the largest window of a Zstandard frame, which is what RFC 8878 asks for; zstdBytes is what decompressing
	// one may take besides (8,458 KiB measured).
	zstdWindow = 8 << 20
	zstdBytes  = zstdWindow + 512<<10
)

// What ends the reading of a body.
var (
	errTooLarge = fasthttp.ErrBodyTooLarge
	errCorrupt  = errors.New("the body is not what its Content-Encoding says")
)

// bodies reads what is posted. Safe for concurrent use.
type bodies struct {
	most int       // bytes of one body, as it came and decompressed
	gzip sync.Pool // of *gzip.Reader
	zstd sync.Pool // of *zstd.Decoder, which with one goroutine needs no closing
}

func newBodies(most int) *bodies {
	b := &bodies{most: most}
	b.gzip.New = func() any { return new(gzip.Reader) }
	return b
}

// read appends the body of a request, as it came, to buf, which is empty.
func (b *bodies) read(ctx *fasthttp.RequestCtx, buf []byte, h *reservation) ([]byte, error) {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		body := ctx.Request.Body()
		buf, err := memory.Grow(h, buf, len(body))
		if err != nil {
			return buf, err
		}
		return append(buf, body...), nil
	}
	announced := ctx.Request.Header.ContentLength()
	switch {
	case announced > b.most:
		return buf, errTooLarge
	case announced < 0: // in chunks
		announced = firstBytes
	}
	return b.fill(stream, buf, announced, h)
}

// fill appends a stream to its end to buf, which is empty. likely is how much it may hold.
func (b *bodies) fill(stream io.Reader, buf []byte, likely int, h *reservation) ([]byte, error) {
	buf, err := memory.Grow(h, buf, max(1, min(likely, firstBytes)))
	if err != nil {
		return buf, err
	}
	for worked := 0; ; {
		if worked >= readBytes {
			worked = 0
			runtime.Gosched() // as while a body is parsed
		}
		// One byte beyond the most tells a stream that is too large from one that has ended.
		n, err := stream.Read(buf[len(buf):min(cap(buf), b.most+1, len(buf)+readBytes)])
		buf = buf[:len(buf)+n]
		worked += n
		switch {
		case len(buf) > b.most:
			return buf, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
		// What is left may be less than doubling would make room for.
		if len(buf) == cap(buf) {
			if buf, err = memory.GrowTo(h, buf, min(max(2*cap(buf), 64), b.most+1)); err != nil {
				return buf, err
			}
		}
	}
}

// decompress appends what in is the compressed form of, at most b.most bytes, to buf, which is empty. What the decompressor
// itself needs is taken from windows, for as long as it is at work.
func (b *bodies) decompress(in []byte, encoding int, buf []byte, h *reservation, windows *budget) ([]byte, error) {
	var window reservation
	window.begin(windows, owner{}, windows.all, nil)
	if err := window.Take(ifElse(encoding == gzipped, gzipBytes, zstdBytes)); err != nil {
		return buf, err
	}
	defer window.end()
	var err error
	if encoding == gzipped {
		buf, err = b.gunzip(in, buf, h)
	} else {
		buf, err = b.unzstd(in, buf, h)
	}
	if err == nil || errors.Is(err, errTooLarge) || errors.Is(err, errNoRoom) {
		return buf, err
	}
	return buf, errCorrupt
}

func ifElse(is bool, then, otherwise int) int {
	if is {
		return then
	}
	return otherwise
}

func (b *bodies) gunzip(in, buf []byte, h *reservation) ([]byte, error) {
	z := b.gzip.Get().(*gzip.Reader)
	defer b.gzip.Put(z)
	if err := z.Reset(bytes.NewReader(in)); err != nil {
		return buf, err
	}
	return b.fill(z, buf, 4*len(in), h)
}

func (b *bodies) unzstd(in, buf []byte, h *reservation) ([]byte, error) {
	z, ok := b.zstd.Get().(*zstd.Decoder)
	if !ok {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(uint64(max(b.most, zstdWindow))))
		if err != nil {
			return buf, err
		}
	}
	defer b.zstd.Put(z)
	if err := z.Reset(bytes.NewReader(in)); err != nil {
		return buf, err
	}
	buf, err := b.fill(z, buf, 4*len(in), h)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) { // it says so in front
		return buf, errTooLarge
	}
	return buf, err
}
