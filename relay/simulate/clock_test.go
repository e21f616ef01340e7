package simulate

import (
	"testing"
	"time"
)

func TestAReadingHasTwoClocks(t *testing.T) {
	wall := time.Date(1975, 3, 4, 5, 6, 7, 8, time.UTC)
	a, b := reading(wall, time.Second), reading(wall.AddDate(40, 0, 0), time.Minute)
	if !a.Equal(wall) || b.Sub(a) != 59*time.Second || !a.Add(time.Hour).Equal(wall.Add(time.Hour)) {
		t.Errorf("a reading of %s and 1 s is %s; %s later it is %s", wall, a, b.Sub(a), b)
	}
}
