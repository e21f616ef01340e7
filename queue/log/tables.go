package log

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"realtorbot-relay/queue/codec"
)

// tables caches the tables of those sealed segments that were asked for last.
type tables struct {
	mu   sync.Mutex
	list []cached
}

type cached struct {
	of       *segment
	blocks   []Info
	postings []byte
}

// maxTables is how many tables are cached; one has some 100 KB.
const maxTables = 8

// table returns the blocks of a segment, in order. It reads memory when they are cached or the segment is open, else the
// footer.
func (l *Log) table(s *segment) ([]Info, error) {
	c, err := l.cached(s)
	return c.blocks, err
}

// postingsOf returns the postings of a sealed segment, nil when they can't be read. They are not cached: a search of all
// segments would push out the tables that others need.
func (l *Log) postingsOf(s *segment) ([]byte, error) {
	l.tables.mu.Lock()
	at := slices.IndexFunc(l.tables.list, func(c cached) bool { return c.of == s })
	if at >= 0 {
		postings := l.tables.list[at].postings
		l.tables.mu.Unlock()
		return postings, nil
	}
	l.tables.mu.Unlock()
	raw, err := s.read(sectionPostings)
	if errors.Is(err, codec.ErrDamaged) {
		l.reportPostings(s)
		return nil, nil
	}
	return raw, err
}

func (l *Log) reportPostings(s *segment) {
	l.reportDamage(s, "its postings of types and lanes can't be read, so all its blocks are read")
}

func (l *Log) cached(s *segment) (cached, error) {
	l.mu.RLock()
	if !s.sealed {
		blocks := s.blocks
		l.mu.RUnlock()
		return cached{of: s, blocks: blocks}, nil
	}
	l.mu.RUnlock()
	l.tables.mu.Lock()
	at := slices.IndexFunc(l.tables.list, func(c cached) bool { return c.of == s })
	if at >= 0 {
		c := l.tables.list[at]
		l.tables.list = append(slices.Delete(l.tables.list, at, at+1), c)
		l.tables.mu.Unlock()
		return c, nil
	}
	l.tables.mu.Unlock()
	c, err := l.footerOf(s)
	if err != nil {
		return c, err
	}
	l.tables.mu.Lock()
	if l.tables.list = append(l.tables.list, c); len(l.tables.list) > maxTables {
		l.tables.list = slices.Delete(l.tables.list, 0, 1)
	}
	l.tables.mu.Unlock()
	return c, nil
}

// footerOf reads a footer. A table that can't be read is made again by walking the blocks; without postings every block of
// the segment may match.
func (l *Log) footerOf(s *segment) (c cached, err error) {
	c.of = s
	raw, err := s.read(sectionTable)
	ok := false
	if err == nil {
		c.blocks, ok = parseTable(raw)
	}
	if Gone(err) {
		return c, err
	}
	if !ok {
		l.reportDamage(s, "its table of blocks can't be read and is made again")
		if c.blocks, _, err = s.walk(s.sections[sectionTable].offset, nil); err != nil {
			return c, err
		}
	}
	if c.postings, err = s.read(sectionPostings); errors.Is(err, codec.ErrDamaged) {
		l.reportPostings(s)
		c.postings, err = nil, nil
	}
	return c, err
}

// reportDamage reports damage of a segment, once.
func (l *Log) reportDamage(s *segment, what string) {
	if !s.reported.Swap(true) {
		l.opts.Notice(fmt.Sprintf("log: segment %d is damaged: %s", s.number, what))
	}
}
