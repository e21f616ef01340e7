package format1

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/dgraph-io/badger/v4/fb"

	"realtorbot-relay/queue/codec"
)

// table is one of Badger's sorted files. It is read with read(2), a block at a time: so no damage of it, and no page that
// the disk can't read, ends the process.
//
//	table:  blocks; index; its length, 4 bytes; checksum; its length, 4
//	block:  entries; where each begins, 4 bytes each; their number, 4; checksum; its length, 4
//	entry:  how much of the block's first key it shares, 2 bytes; how much of its own follows, 2; that; meta, 1; user's
//	        meta, 1; when it expires, uvarint; value
//
// Lengths and numbers are big-endian; those in arrays and headers of entries are little-endian. A key ends with 8 bytes of
// version, counted down.
type table struct {
	path     string
	id       uint64
	smallest []byte // keys without their versions
	biggest  []byte
	newest   uint64 // version
	found    []span // blocks, when the index can't be read; else the index is read whenever the table is opened
}

// span is where a block lies, and its first key.
type span struct {
	first    []byte // with its version
	at, size int
}

// entry is one write of a key. Its bytes are valid until the next one is read.
type entry struct {
	key     []byte // without its version
	value   []byte
	version uint64
	deletes bool
}

// compare sorts entries by key and, of one key, the newest first.
func compare(a, b *entry) int {
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c
	}
	return cmp.Compare(b.version, a.version)
}

const (
	keyVersion  = 8 // bytes behind a key
	metaDelete  = 1 << 0
	metaPointer = 1 << 1 // the value lies elsewhere, which format 1 never asked for
	checksumMax = 16
	maxBlock    = 2 << 20 // more than any block has: a large value has one for itself
)

// inspectTable opens a table and reads its index and its last block. It calls trouble with what can't be read. A table
// without an index is searched for its blocks. It returns nil when nothing of the table can be read.
func inspectTable(path string, id uint64, trouble func(what string, err error)) *table {
	t := &table{path: path, id: id}
	c, err := t.open()
	if err != nil {
		trouble(fmt.Sprintf("the index of table %d can't be read", id), err)
		raw, unread, err := readAround(path)
		if err != nil {
			trouble(fmt.Sprintf("table %d can't be read", id), err)
			return nil
		}
		if unread > 0 {
			trouble(fmt.Sprintf("%d bytes of table %d can't be read", unread, id), codec.ErrDamaged)
		}
		if t.found = findBlocks(raw); len(t.found) == 0 {
			trouble(fmt.Sprintf("nothing of table %d can be read", id), codec.ErrDamaged)
			return nil
		}
		for _, s := range t.found {
			_ = eachEntry(raw[s.at:s.at+s.size], func(e *entry) { t.newest = max(t.newest, e.version) }) // findBlocks has verified the block
		}
		if c, err = t.open(); err != nil {
			trouble(fmt.Sprintf("table %d can't be read", id), err)
			return nil
		}
	}
	defer c.close()
	if t.found == nil {
		t.newest = c.index.root.MaxVersion()
	}
	t.smallest = bytes.Clone(userKey(c.index.key(0)))
	t.biggest = []byte{0xff} // behind all keys, if the last block can't be read
	if c.load(c.index.blocks()-1) == nil {
		for c.entries > 0 {
			c.step()
			t.biggest = append(t.biggest[:0], c.now.key...)
		}
	}
	return t
}

func userKey(key []byte) []byte { return key[:max(len(key)-keyVersion, 0)] }

// index says where the blocks of a table are.
type index struct {
	root  *fb.TableIndex
	found []span
}

func (x *index) blocks() int {
	if x.found != nil {
		return len(x.found)
	}
	return x.root.OffsetsLength()
}

func (x *index) key(i int) []byte {
	if x.found != nil {
		return x.found[i].first
	}
	var b fb.BlockOffset
	x.root.Offsets(&b, i)
	return b.KeyBytes()
}

func (x *index) place(i int) (at, size int) {
	if x.found != nil {
		return x.found[i].at, x.found[i].size
	}
	var b fb.BlockOffset
	x.root.Offsets(&b, i)
	return int(b.Offset()), int(b.Len())
}

func (t *table) open() (c *cursor, err error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	c = &cursor{table: t, file: f, bad: func(int, error) {}}
	defer func() {
		if what := recover(); what != nil { // flatbuffers panic over bytes that make no sense
			err = fmt.Errorf("it makes no sense: %w", codec.ErrDamaged)
		}
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c.size = info.Size()
	if t.found != nil {
		c.index.found = t.found
		return c, nil
	}
	raw, err := c.readIndex()
	if err != nil {
		return nil, err
	}
	c.index.root = fb.GetRootAsTableIndex(raw, 0)
	if c.index.blocks() == 0 {
		return nil, fmt.Errorf("it names no blocks: %w", codec.ErrDamaged)
	}
	for i := range c.index.blocks() {
		at, size := c.index.place(i)
		if len(c.index.key(i)) <= keyVersion || int64(at)+int64(size) > c.size {
			return nil, fmt.Errorf("it names a block that is not there: %w", codec.ErrDamaged)
		}
	}
	return c, nil
}

func (c *cursor) readIndex() ([]byte, error) {
	length := func(end int64) (int64, error) {
		var raw [4]byte
		if end < 4 {
			return 0, fmt.Errorf("it is cut short: %w", codec.ErrDamaged)
		}
		_, err := c.file.ReadAt(raw[:], end-4)
		n := int64(binary.BigEndian.Uint32(raw[:]))
		if err == nil && n > end-4 {
			err = fmt.Errorf("its length makes no sense: %w", codec.ErrDamaged)
		}
		return n, err
	}
	n, err := length(c.size)
	if err != nil {
		return nil, err
	}
	if n > checksumMax {
		return nil, fmt.Errorf("its checksum makes no sense: %w", codec.ErrDamaged)
	}
	sum := make([]byte, n)
	end := c.size - 4 - n
	if _, err = c.file.ReadAt(sum, end); err != nil {
		return nil, err
	}
	if n, err = length(end); err != nil {
		return nil, err
	}
	raw := make([]byte, n)
	if _, err = c.file.ReadAt(raw, end-4-n); err != nil {
		return nil, err
	}
	if want, ok := parseChecksum(sum); !ok || want != uint64(codec.Sum(raw)) || n == 0 {
		return nil, fmt.Errorf("its checksum is wrong: %w", codec.ErrDamaged)
	}
	return raw, nil
}

// parseChecksum reads Badger's message of a checksum: field 1 is absent for CRC-32C, field 2 has the sum.
func parseChecksum(raw []byte) (sum uint64, ok bool) {
	if len(raw) == 0 {
		return 0, true
	}
	d := codec.Decoder{Buf: raw}
	field := d.Byte()
	sum = d.Uvarint()
	return sum, d.OK() && field == 2<<3 && len(d.Buf) == 0
}
