package delivery

import (
	"math"
	"slices"
	"time"
)

// clockSkewFresh is for how long what an answer said about the clocks counts.
const clockSkewFresh = time.Hour

// ClockSkew returns how many seconds the clocks of the endpoints are ahead of this machine's: the median of those that answered
// within the last hour; of two in the middle, the smaller skew. endpoints is how many these are; with 0 nothing is known.
func ClockSkew(statuses []Status, now time.Time) (ahead float64, endpoints int) {
	var all []float64
	for i := range statuses {
		if s := &statuses[i]; s.ClockSkew != nil && now.Sub(*s.ClockSeen) < clockSkewFresh {
			all = append(all, *s.ClockSkew)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if math.Abs(high) < math.Abs(low) {
		low = high
	}
	return low, len(all)
}
