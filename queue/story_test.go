package queue

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Whoever asks while an attempt is settled must not be told of its outcome without being told of it.
func TestAStoryHasTheAttemptsThatLedToItsState(t *testing.T) {
	t.Parallel()
	b := openBench(t, nil)
	crm := b.lane("crm")
	const rounds = 60
	for i := range rounds {
		id := fmt.Sprint("evt_", i)
		b.append(NewLaneSet(crm.ID()), id)
		crm.Retry(mustTake(t, crm, id), broken(1), time.Now())
		b.saveAll()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * 300 * time.Microsecond)
			d, in := takeDue(crm, time.Now().Add(time.Second))
			if !in {
				t.Errorf("%s is not due", id)
				return
			}
			crm.Delivered(d, ok(2))
		})
		for told := false; !told; {
			_, stories, found, err := b.Story([]byte(id))
			if err != nil || !found || len(stories) != 1 {
				t.Fatalf("story of %s: %v, found %v, %v", id, stories, found, err)
			}
			told = stories[0].State == Settled
			if told && len(stories[0].Attempts) != 2 {
				t.Errorf("%s is delivered by %d attempts, want 2", id, len(stories[0].Attempts))
			}
		}
		wg.Wait()
	}
}
