package format1

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	"realtorbot-relay/queue/codec"
)

// isDamage tells errors of lost bytes, which are passed over, from errors of obstacles: a file that may not be opened, or
// too many open files. An obstacle ends the reading, since taking it for damage would lose what is there.
func isDamage(err error) bool {
	for _, lost := range [...]error{codec.ErrDamaged, fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF, unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ENODATA} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// readAround reads a file, with zeros for pages that the disk can't read, and returns how many bytes these are.
func readAround(path string) (raw []byte, unread int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	raw = make([]byte, info.Size())
	unread, err = fill(f, raw)
	return raw, unread, err
}

// fill reads as much of raw as can be read, and returns how many bytes are lost.
func fill(f io.ReaderAt, raw []byte) (unread int64, err error) {
	const page = 4 << 10
	if _, err := f.ReadAt(raw, 0); err == nil || err == io.EOF {
		return 0, nil
	}
	for at := 0; at < len(raw); at += page {
		part := raw[at:min(at+page, len(raw))]
		if _, err := f.ReadAt(part, int64(at)); err != nil && err != io.EOF {
			if !isDamage(err) {
				return unread, err
			}
			clear(part)
			unread += int64(len(part))
		}
	}
	return unread, nil
}
