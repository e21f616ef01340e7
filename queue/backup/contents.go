package backup

import (
	"fmt"
	"time"
)

// Contents says what a backup has, as of the moment at which it was begun.
type Contents struct {
	Relay     string     `json:"relay"`    // version of the relay that wrote it
	Format    string     `json:"format"`   // of the queue, a line
	BeganAt   time.Time  `json:"began_at"` // everything acknowledged before is in it
	Events    int64      `json:"events"`   // in the log, settled or not
	Bytes     int64      `json:"bytes"`    // of their bodies
	Size      int64      `json:"size_bytes"`
	Endpoints []Endpoint `json:"endpoints"` // also those that were not configured any more
}

// Endpoint is what one endpoint had.
type Endpoint struct {
	Name     string `json:"name"`
	Pending  int64  `json:"pending"`
	Retrying int64  `json:"retrying"`
	Failed   int64  `json:"failed"`
	Paused   string `json:"paused,omitempty"` // why
}

// Report is what Read found in a whole backup.
type Report struct {
	Contents
	Damage []string // what could not be read when it was written
	Stored int64    // bytes of the backup
}

// String is one line about the backup.
func (r *Report) String() string {
	var pending, retrying, failed int64
	for _, e := range r.Endpoints {
		pending, retrying, failed = pending+e.Pending, retrying+e.Retrying, failed+e.Failed
	}
	return fmt.Sprintf("a backup of %s by relay %s, whole, %d KiB: %d events; %d deliveries pending, %d retrying, %d failed, for %d endpoints",
		r.BeganAt.Format(time.RFC3339), r.Relay, (r.Stored+1023)>>10, r.Events, pending, retrying, failed, len(r.Endpoints))
}
