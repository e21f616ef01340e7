package store

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

// filled makes a fresh store of n records of a kind, as it is made from the log, and returns how long that took.
func filled(b *testing.B, k Kind, n int) (dir string, took time.Duration) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "store")
	began := time.Now()
	s, err := openUnforked(Options{Dir: dir, Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	batch := s.Batch()
	value := make([]byte, 24)
	for i := range n {
		if !batch.Fits(1, len(value)) {
			if err := batch.Commit(uint64(i)); err != nil {
				b.Fatal(err)
			}
			batch = s.Batch()
		}
		value = binary.BigEndian.AppendUint64(make([]byte, 0, 24), uint64(i))[:24]
		key := Key{Kind: k, Number: uint64(i) * 33}
		if k.hasLane() {
			key.Lane = uint32(i % 100)
		}
		if err := batch.SetNew(key, value); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Commit(uint64(n)); err != nil {
		b.Fatal(err)
	}
	if err := s.Seal(time.Minute); err != nil {
		b.Fatal(err)
	}
	return dir, time.Since(began)
}

const million = 1_000_000

func BenchmarkOpenWithAMillionRetries(b *testing.B) {
	dir, took := filled(b, Retry, million)
	b.ReportMetric(took.Seconds(), "s/making")
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s, err := openUnforked(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/record")
		if err := s.Close(time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckOfAMillionPlaces(b *testing.B) {
	dir, took := filled(b, Place, million)
	b.ReportMetric(took.Seconds(), "s/making")
	s, err := openUnforked(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(time.Minute)
	for b.Loop() {
		if list, err := s.Check(Place); err != nil || len(list) > 0 {
			b.Fatal(list, err)
		}
	}
	// The longest that one step takes is the longest that anything is held.
	var steps []time.Duration
	for at := 0; at < million; at += stepRecords {
		began, n := time.Now(), 0
		_ = s.walk(s.version, PlaceKey(uint64(at)*33), Last(Place), func(key Key, value []byte) (bool, error) {
			_ = hashOf(key, value)
			n++
			return n < stepRecords, nil
		})
		steps = append(steps, time.Since(began))
	}
	slices.Sort(steps)
	b.ReportMetric(float64(steps[len(steps)/2].Microseconds()), "µs/step")
	b.ReportMetric(float64(steps[len(steps)-1].Microseconds()), "µs/longest-step")
}

func BenchmarkHash(b *testing.B) {
	value := make([]byte, 40)
	for i := 0; b.Loop(); i++ {
		_ = hashOf(RetryKey(7, uint64(i)), value)
	}
}

// What gathering a write costs, with its sums, before Badger sees it.
func BenchmarkSet(b *testing.B) {
	for _, k := range []Kind{Retry, Place} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			s, err := openUnforked(Options{Dir: filepath.Join(b.TempDir(), "store")})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close(time.Minute)
			value := make([]byte, 40)
			batch := s.Batch()
			for i := 0; b.Loop(); i++ {
				if !batch.Fits(1, len(value)) {
					batch = s.Batch()
				}
				if err := batch.SetNew(Key{Kind: k, Number: uint64(i)}, value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A commit of 100 retries, synced; each replaces one.
func BenchmarkCommit(b *testing.B) {
	s, err := openUnforked(Options{Dir: filepath.Join(b.TempDir(), "store")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(time.Minute)
	value := make([]byte, 40)
	for i := 0; b.Loop(); i++ {
		batch := s.Batch()
		for n := range 100 {
			if err := batch.Set(RetryKey(uint32(n), uint64(i%50)), value); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Commit(uint64(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMerged(b *testing.B) {
	dir, _ := filled(b, Place, million)
	s, err := openUnforked(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(time.Minute)
	for b.Loop() {
		s.Merged()
	}
	b.ReportMetric(float64(len(s.db.Tables())), "tables")
}

func BenchmarkGet(b *testing.B) {
	for _, k := range []Kind{Retry, Place} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			dir, _ := filled(b, k, 200_000)
			s, err := openUnforked(Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close(time.Minute)
			for i := 0; b.Loop(); i++ {
				key := Key{Kind: k, Number: uint64(i*7919%200_000) * 33}
				if k.hasLane() {
					key.Lane = uint32(i * 7919 % 200_000 % 100)
				}
				if value, err := s.Get(key); err != nil || value == nil {
					b.Fatal(key, err)
				}
			}
		})
	}
}
