package ingest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever sends a thousand requests is let in as often as another that sends one.
func TestOwnersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSemaphore(1)
		many, few, source := owner{address: netip.MustParseAddr("192.0.2.1")}, owner{address: netip.MustParseAddr("192.0.2.2")}, owner{source: "platform"}
		if !s.enter(many) {
			t.Fatal("nobody is in, and it waits")
		}
		var order []string
		come := func(name string, o owner) {
			go func() {
				if s.enter(o) {
					order = append(order, name)
				}
			}()
			synctest.Wait()
		}
		for i := range 5 {
			come(fmt.Sprint("many", i), many)
		}
		come("few0", few)
		come("source0", source)
		come("few1", few)
		for range 9 {
			s.leave()
			synctest.Wait()
		}
		if got, want := strings.Join(order, " "), "many0 few0 source0 many1 few1 many2 many3 many4"; got != want {
			t.Errorf("the order is %s, want %s", got, want)
		}
		if s.free != 1 || len(s.waiting) > 0 {
			t.Errorf("left: %+v", s)
		}
		// Who waits too long goes, and nobody is let in for it.
		if !s.enter(many) {
			t.Fatal("nobody is in, and it waits")
		}
		began := time.Now()
		if s.enter(few) || time.Since(began) != semaphoreWait {
			t.Errorf("after %v it is let in, or goes", time.Since(began))
		}
		if s.leave(); s.free != 1 || len(s.waiting) > 0 {
			t.Errorf("left: %+v", s)
		}
	})
}
