package format1

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sort"

	"realtorbot-relay/queue/codec"
)

// cursor walks the entries of a table. It keeps the file open.
type cursor struct {
	table *table
	file  *os.File
	size  int64
	index index
	raw   []byte
	data  []byte // entries of the present block
	begin []byte // where each begins
	base  []byte // first key
	key   []byte
	block int // the present one
	next  int // entry
	// entries are how many are left in the block.
	entries int
	now     entry
	bad     func(block int, err error) // called with a block that can't be read, which is then passed over
}

// load reads a block. step steps through its entries.
func (c *cursor) load(block int) error {
	at, size := c.index.place(block)
	c.block, c.entries, c.next = block, 0, 0
	if size > maxBlock {
		return fmt.Errorf("a length of %d bytes: %w", size, codec.ErrDamaged)
	}
	if cap(c.raw) < size {
		c.raw = make([]byte, max(size, 8<<10))
	}
	raw := c.raw[:size]
	if n, err := c.file.ReadAt(raw, int64(at)); err != nil && !(err == io.EOF && n == size) {
		return err
	}
	return c.parseBlock(raw)
}

func (c *cursor) parseBlock(raw []byte) (err error) {
	if c.data, c.begin, err = openBlock(raw); err != nil {
		return err
	}
	first, own := 0, 0
	if len(c.data) >= 4 {
		first, own = int(binary.LittleEndian.Uint16(c.data)), int(binary.LittleEndian.Uint16(c.data[2:]))
	}
	if first != 0 || own <= keyVersion || len(c.data) < 4+own {
		return fmt.Errorf("its first key makes no sense: %w", codec.ErrDamaged)
	}
	c.base, c.next, c.entries = c.data[4:4+own], 0, len(c.begin)/4
	// All entries are checked now, so that step can't fail.
	last := 0
	for i := range c.entries {
		begin, end := c.bounds(i)
		if begin < last || end-begin < 4+3 || end > len(c.data) {
			c.entries = 0
			return fmt.Errorf("entry %d makes no sense: %w", i, codec.ErrDamaged)
		}
		share, own := int(binary.LittleEndian.Uint16(c.data[begin:])), int(binary.LittleEndian.Uint16(c.data[begin+2:]))
		if share > len(c.base) || share+own <= keyVersion || begin+4+own+3 > end {
			c.entries = 0
			return fmt.Errorf("entry %d makes no sense: %w", i, codec.ErrDamaged)
		}
		last = end
	}
	return nil
}

func (c *cursor) bounds(i int) (begin, end int) {
	begin, end = int(binary.LittleEndian.Uint32(c.begin[4*i:])), len(c.data)
	if 4*i+4 < len(c.begin) {
		end = int(binary.LittleEndian.Uint32(c.begin[4*i+4:]))
	}
	return begin, end
}

// step makes the block's next entry the present one.
func (c *cursor) step() {
	begin, end := c.bounds(c.next)
	raw := c.data[begin:end]
	share, own := int(binary.LittleEndian.Uint16(raw)), int(binary.LittleEndian.Uint16(raw[2:]))
	c.key = append(append(c.key[:0], c.base[:share]...), raw[4:4+own]...)
	raw = raw[4+own:]
	_, n := binary.Uvarint(raw[2:])
	n = max(n, 0)
	c.now = entry{
		key: userKey(c.key), value: raw[2+n:],
		version: ^binary.BigEndian.Uint64(c.key[len(c.key)-keyVersion:]), deletes: raw[0]&metaDelete != 0,
	}
	if raw[0]&metaPointer != 0 {
		c.now.value = nil
	}
	c.next++
	c.entries--
}

// seek makes the first entry at or behind a key the present one; advance does so with the next one. Both report whether
// there is one.
func (c *cursor) seek(key []byte) bool {
	n := c.index.blocks()
	after := sort.Search(n, func(i int) bool { return bytes.Compare(userKey(c.index.key(i)), key) >= 0 })
	c.seekBlock(max(after-1, 0)) // the block before may end with such keys
	for c.advance() {
		if bytes.Compare(c.now.key, key) >= 0 {
			return true
		}
	}
	return false
}

func (c *cursor) seekBlock(block int) {
	c.entries = 0
	c.block = block - 1
}

func (c *cursor) advance() bool {
	for c.entries == 0 {
		if c.block+1 >= c.index.blocks() {
			return false
		}
		if err := c.load(c.block + 1); err != nil {
			c.bad(c.block, err)
		}
	}
	c.step()
	return true
}

func (c *cursor) peek() *entry { return &c.now }

func (c *cursor) close() { _ = c.file.Close() }

func eachEntry(raw []byte, fn func(*entry)) error {
	var c cursor
	if err := c.parseBlock(raw); err != nil {
		return err
	}
	for c.entries > 0 {
		c.step()
		fn(&c.now)
	}
	return nil
}

// openBlock verifies a block and takes it apart.
func openBlock(raw []byte) (entries, begins []byte, err error) {
	n := len(raw)
	if n < 8 {
		return nil, nil, fmt.Errorf("it is too short: %w", codec.ErrDamaged)
	}
	sumLen := int(binary.BigEndian.Uint32(raw[n-4:]))
	if sumLen > checksumMax || n-4-sumLen < 4 {
		return nil, nil, fmt.Errorf("its end makes no sense: %w", codec.ErrDamaged)
	}
	end := n - 4 - sumLen
	want, ok := parseChecksum(raw[end : n-4])
	if !ok || want != uint64(codec.Sum(raw[:end])) {
		return nil, nil, fmt.Errorf("its checksum is wrong: %w", codec.ErrDamaged)
	}
	count := int(binary.BigEndian.Uint32(raw[end-4:]))
	if count < 1 || count > (end-4)/4 {
		return nil, nil, fmt.Errorf("it has %d entries: %w", count, codec.ErrDamaged)
	}
	return raw[:end-4-4*count], raw[end-4-4*count : end-4], nil
}
