package ingest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/answer"
)

const (
	// firstBytes is the room that a body gets at once; beyond it, room is given for what came, not for what was announced.
	firstBytes = 16 << 10
	// leastBudget is the room for all bodies larger than firstBytes together, in bytes, unless max_body asks for more.
	leastBudget = 64 << 20
	// zstdWindow is what decompressing a Zstandard frame may take besides: the largest window that RFC 8878 asks for.
	zstdWindow = 8 << 20
)

// What ends the reading of a body.
var (
	errTooLarge = fasthttp.ErrBodyTooLarge
	errNoRoom   = errors.New("bodies take all the room that there is for them")
	errCorrupt  = errors.New("the body is not what its Content-Encoding says")
)

// bodies reads what is posted, and bounds the memory that it takes together. Safe for concurrent use.
type bodies struct {
	most   int // bytes of one body, as it came and decompressed
	budget atomic.Int64
	gzip   sync.Pool // of *gzip.Reader
	zstd   sync.Pool // of *zstd.Decoder, which with one goroutine needs no closing
}

func newBodies(most int) *bodies {
	b := &bodies{most: most}
	b.budget.Store(int64(max(leastBudget, 4*most)))
	b.gzip.New = func() any { return new(gzip.Reader) }
	return b
}

// room is a buffer that a body is read into and the part of the budget that it holds.
type room struct {
	buf  []byte
	held int64
}

// grow makes room for more bytes, in all not beyond most.
func (b *bodies) grow(r *room, more, most int) error {
	want := len(r.buf) + more
	if want > cap(r.buf) {
		want = min(max(want, 2*cap(r.buf)), most)
	}
	if err := b.take(r, want); err != nil {
		return err
	}
	r.buf = slices.Grow(r.buf, want-len(r.buf))
	return nil
}

// take raises what r holds of the budget to so many bytes.
func (b *bodies) take(r *room, bytes int) error {
	more := int64(bytes) - r.held
	if bytes <= firstBytes || more <= 0 {
		return nil
	}
	if b.budget.Add(-more) < 0 {
		b.budget.Add(more)
		return errNoRoom
	}
	r.held += more
	return nil
}

// giveBack ends the use of a room's content. A buffer that is not large stays for the next body.
func (b *bodies) giveBack(r *room) {
	b.budget.Add(r.held)
	r.held = 0
	if cap(r.buf) > keptBytes {
		r.buf = nil
	}
	r.buf = r.buf[:0]
}

// read returns the body of a request, as it came, in r.
func (b *bodies) read(ctx *fasthttp.RequestCtx, r *room) error {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		r.buf = append(r.buf[:0], ctx.Request.Body()...)
		return nil
	}
	announced := ctx.Request.Header.ContentLength()
	switch {
	case announced > b.most:
		return errTooLarge
	case announced < 0: // in chunks
		announced = firstBytes
	}
	return b.fill(stream, r, announced)
}

// fill reads a stream to its end. likely is how much it may hold.
func (b *bodies) fill(stream io.Reader, r *room, likely int) error {
	r.buf = r.buf[:0]
	for more := max(1, min(likely, firstBytes)); ; more = 1 {
		// One byte beyond the most tells a stream that is too large from one that has ended.
		if err := b.grow(r, more, b.most+1); err != nil {
			return err
		}
		n, err := stream.Read(r.buf[len(r.buf):min(cap(r.buf), b.most+1)])
		r.buf = r.buf[:len(r.buf)+n]
		switch {
		case len(r.buf) > b.most:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// decompress returns in r what in is the compressed form of, at most b.most bytes.
func (b *bodies) decompress(in []byte, encoding int, r *room) error {
	var err error
	if encoding == gzipped {
		err = b.gunzip(in, r)
	} else {
		err = b.unzstd(in, r)
	}
	if err == nil || errors.Is(err, errTooLarge) || errors.Is(err, errNoRoom) {
		return err
	}
	return errCorrupt
}

func (b *bodies) gunzip(in []byte, r *room) error {
	z := b.gzip.Get().(*gzip.Reader)
	defer b.gzip.Put(z)
	if err := z.Reset(bytes.NewReader(in)); err != nil {
		return err
	}
	return b.fill(z, r, 4*len(in))
}

func (b *bodies) unzstd(in []byte, r *room) error {
	var window room // which is taken while it decompresses, and not longer
	defer b.giveBack(&window)
	if err := b.take(&window, zstdWindow); err != nil {
		return err
	}
	z, ok := b.zstd.Get().(*zstd.Decoder)
	if !ok {
		var err error
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(uint64(max(b.most, zstdWindow))))
		if err != nil {
			return err
		}
	}
	defer b.zstd.Put(z)
	if err := z.Reset(bytes.NewReader(in)); err != nil {
		return err
	}
	err := b.fill(z, r, 4*len(in))
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) { // it says so in front
		return errTooLarge
	}
	return err
}

// refuseBody answers a request whose body could not be had.
func (in *Intake) refuseBody(ctx *fasthttp.RequestCtx, err error) {
	switch {
	case errors.Is(err, errNoRoom):
		ctx.SetConnectionClose() // what is left of the body is not read
		in.refuse(ctx, nil, overloaded)
	case errors.Is(err, errCorrupt):
		in.counts.Invalid.Add(1)
		answer.Error(ctx, 400, "invalid_encoding", err.Error())
	default:
		answer.Unreadable(ctx, err)
	}
}
