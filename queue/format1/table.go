package format1

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"

	"github.com/dgraph-io/badger/v4/fb"
	"realtorbot-relay/queue/codec"
)

// table is one of Badger's sorted files. It is read with read(2), a block at a time: no damage of it, and no page that the
// disk does not give, ends the process.
//
//	table:  blocks; index; its length, 4 bytes; checksum; its length, 4
//	block:  entries; where each begins, 4 bytes each; their number, 4; checksum; its length, 4
//	entry:  how much of the block's first key it shares, 2 bytes; how much of its own follows, 2; that; meta, 1; user's
//	        meta, 1; when it expires, uvarint; value
//
// Lengths and numbers are big-endian, what is in arrays and headers of entries little-endian. A key ends with 8 bytes of
// version, counted down.
type table struct {
	path     string
	id       uint64
	smallest []byte // keys without their versions
	biggest  []byte
	newest   uint64 // version
	found    []span // blocks, when the index can't be read; else it is read whenever the table is opened
}

// span is where a block lies and its first key.
type span struct {
	first    []byte // with its version
	at, size int
}

// entry is one write of a key. Its bytes are valid until the next one is asked for.
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

// lookAt opens a table and reads its index and its last block. What can't be read is told to trouble. A table without an
// index is searched for its blocks. It returns nil when nothing of the table can be read.
func lookAt(path string, id uint64, trouble func(what string, err error)) *table {
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
			_ = eachEntry(raw[s.at:s.at+s.size], func(e *entry) { t.newest = max(t.newest, e.version) }) // findBlocks opened it
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
	t.biggest = []byte{0xff} // behind all keys, should the last block not tell
	if c.load(c.index.blocks()-1) == nil {
		for c.entries > 0 {
			c.step()
			t.biggest = append(t.biggest[:0], c.now.key...)
		}
	}
	return t
}

func userKey(key []byte) []byte { return key[:max(len(key)-keyVersion, 0)] }

// index tells where the blocks of a table are.
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

// cursor walks the entries of a table. The file is open as long as it does.
type cursor struct {
	table *table
	file  *os.File
	size  int64
	index index
	raw   []byte
	data  []byte // entries of the block at hand
	begin []byte // where each begins
	base  []byte // first key
	key   []byte
	block int // at hand
	next  int // entry
	// entries are how many are left in the block.
	entries int
	now     entry
	bad     func(block int, err error) // is told of a block that can't be read, which is then passed over
}

func (t *table) open() (c *cursor, err error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	c = &cursor{table: t, file: f, bad: func(int, error) {}}
	defer func() {
		if what := recover(); what != nil { // flatbuffers trust what they read
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

// parseChecksum reads Badger's message of a checksum: field 1, absent, says that it is a CRC-32C, field 2 has it.
func parseChecksum(raw []byte) (sum uint64, ok bool) {
	if len(raw) == 0 {
		return 0, true
	}
	d := codec.Decoder{Buf: raw}
	field := d.Byte()
	sum = d.Uvarint()
	return sum, d.OK() && field == 2<<3 && len(d.Buf) == 0
}

// openBlock checks a block and takes it apart.
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

// load reads a block. Its entries follow by step.
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
	return c.take(raw)
}

func (c *cursor) take(raw []byte) (err error) {
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
	// All that follows is looked at now, so that step can't fail.
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

// step makes the next entry of the block the one at hand.
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

// seek makes the first entry at or behind a key the one at hand, and advance the next one. Both report whether there is one.
func (c *cursor) seek(key []byte) bool {
	n := c.index.blocks()
	after := sort.Search(n, func(i int) bool { return bytes.Compare(userKey(c.index.key(i)), key) >= 0 })
	c.begins(max(after-1, 0)) // the block before may end with such keys
	for c.advance() {
		if bytes.Compare(c.now.key, key) >= 0 {
			return true
		}
	}
	return false
}

func (c *cursor) begins(block int) {
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
	if err := c.take(raw); err != nil {
		return err
	}
	for c.entries > 0 {
		c.step()
		fn(&c.now)
	}
	return nil
}

// findBlocks looks for the blocks of a table whose index is lost. A block ends where a checksum holds over all since its
// beginning; behind a broken one the next is looked for at every byte where the first key of a block can be.
func findBlocks(raw []byte) (list []span) {
	for at := 0; at+8 < len(raw); {
		size := blockAt(raw[at:])
		if size == 0 {
			at++
			continue
		}
		own := int(binary.LittleEndian.Uint16(raw[at+2:]))
		list = append(list, span{bytes.Clone(raw[at+4 : at+4+own]), at, size})
		at += size
	}
	return list
}

// blockAt returns the length of the block that begins here, 0 when none does.
func blockAt(raw []byte) int {
	raw = raw[:min(len(raw), maxBlock)]
	if len(raw) < 4+keyVersion+2 || raw[0] != 0 || raw[1] != 0 || !isKind(raw[4]) {
		return 0
	}
	if own := int(binary.LittleEndian.Uint16(raw[2:])); own <= keyVersion || own > maxKey || 4+own > len(raw) {
		return 0
	}
	// The running sum of all since the beginning is taken where an end can be.
	var sum uint32
	summed := 0
	for end := 4 + keyVersion + 8; end+4 <= len(raw); end++ {
		n := int(binary.BigEndian.Uint32(raw[end:]))
		if n < 2 || n > 6 || end-n < summed {
			continue
		}
		want, ok := parseChecksum(raw[end-n : end])
		if !ok {
			continue
		}
		sum, summed = crc32.Update(sum, codec.Castagnoli, raw[summed:end-n]), end-n
		if want == uint64(sum) {
			if _, _, err := openBlock(raw[:end+4]); err == nil {
				return end + 4
			}
		}
	}
	return 0
}
