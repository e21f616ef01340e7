package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"sync"
)

// mac computes HMAC-SHA256 under one key over and over. Absorbing the key costs two of the five or so blocks that a small
// event takes, and a new HMAC several allocations: so states that have absorbed it are kept and used again (crypto/hmac
// restores the absorbed key on Reset). Safe for concurrent use.
type mac struct {
	idle sync.Pool // of *macState
}

// macState belongs to one goroutine between get and put.
type macState struct {
	hash hash.Hash
	head []byte // what is signed before the body, built here so that it needs no allocation
	sum  [sha256.Size]byte
}

func newMAC(key string) *mac {
	m := &mac{}
	m.idle.New = func() any { return newMACState(key) }
	return m
}

func newMACState(key string) *macState {
	return &macState{hash: hmac.New(sha256.New, []byte(key))}
}

func (m *mac) get() *macState { return m.idle.Get().(*macState) }

func (m *mac) put(s *macState) {
	s.hash.Reset()
	m.idle.Put(s)
}

// over returns the MAC of s.head and body; it is valid until s is used or put back.
func (s *macState) over(body []byte) []byte {
	if len(s.head) > 0 {
		s.hash.Write(s.head)
	}
	s.hash.Write(body)
	return s.hash.Sum(s.sum[:0])
}

// equal is 1 when want and got are the same bytes, in a time that depends on the lengths alone.
func equal(want, got []byte) int { return subtle.ConstantTimeCompare(want, got) }
