package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// The endpoints of a run that breaks a relay's disk. live gets everything at once, so that its lane's progress is saved
// all the time. held is paused until the disk is whole again: whatever arrives there comes from what the disk kept.
const (
	liveEndpoint = "live"
	heldEndpoint = "held"

	settleLimit = 5 * time.Minute
	settleStall = time.Minute
)

// aftermath is what a store held after a fault, beside what was acknowledged before it.
type aftermath struct {
	Acknowledged int
	Lost         int // acknowledged, and missing at one of the endpoints: must be 0
	Forgotten    int // acknowledged, and accepted once more when posted again: must be 0
	Repeats      int // received by the live endpoint before and after
	Damaged      int // things that the relay says it can't read
	Start        time.Duration
}

// pair is the two receivers of a relay.
type pair struct {
	live, held         *receiver
	liveAddr, heldAddr string
}

func newPair() (p pair, err error) {
	p.live, p.held = newReceiver(), newReceiver()
	if p.liveAddr, err = startReceiver(p.live); err != nil {
		return p, err
	}
	if p.heldAddr, err = startReceiver(p.held); err != nil {
		p.live.close()
	}
	return p, err
}

func (p *pair) close() {
	p.live.close()
	p.held.close()
}

func (p *pair) endpoints() []endpoint {
	return []endpoint{
		{name: liveEndpoint, url: "http://" + p.liveAddr + "/events", events: []string{"lead.*"}},
		{name: heldEndpoint, url: "http://" + p.heldAddr + "/events", events: []string{"lead.*"}},
	}
}

// inspect starts a relay on a store, lets everything arrive, and compares. before is what the live endpoint had already
// received, to which it adds. The relay runs on, its held endpoint resumed.
func inspect(ctx context.Context, r *relay, p pair, acked *ledger, before map[string]struct{}) (a aftermath, err error) {
	a.Acknowledged = len(acked.acked)
	if a.Start, err = r.start(ctx); err != nil {
		return a, err
	}
	if err := r.operate(ctx, heldEndpoint, "resume"); err != nil {
		return a, err
	}
	if err := r.settle(ctx, p.live, p.held); err != nil {
		return a, err
	}
	live := p.live.ids()
	a.Repeats = len(before) + len(live)
	maps.Copy(live, before)
	a.Repeats -= len(live)
	held := p.held.ids()
	maps.DeleteFunc(live, func(id string, _ struct{}) bool { _, arrived := held[id]; return !arrived })
	a.Lost = acked.compare(live).Lost
	if a.Forgotten, err = r.repost(ctx, acked); err != nil {
		return a, err
	}
	a.Damaged, err = r.damaged(ctx)
	return a, err
}

// settle waits until the relay says that nothing is left to deliver. Running out of time is no error here: what is missing
// then, the comparison will tell.
func (r *relay) settle(ctx context.Context, receivers ...*receiver) error {
	err := r.settled(ctx, settleLimit, settleStall, receivers, liveEndpoint, heldEndpoint)
	if errors.Is(err, errUnfinished) {
		return nil
	}
	return err
}

const repostBatch = 200

// repost posts acknowledged events again. All must be answered as duplicates; it returns how many were not.
func (r *relay) repost(ctx context.Context, acked *ledger) (forgotten int, err error) {
	event, err := newTemplate(acked.run, "lead.created", 250, time.Now())
	if err != nil {
		return 0, err
	}
	var body bytes.Buffer
	for at := 0; at < len(acked.acked); at += repostBatch {
		body.Reset()
		for _, seq := range acked.acked[at:min(at+repostBatch, len(acked.acked))] {
			event.put(event.text, seq, 0)
			body.Write(event.text)
			body.WriteByte('\n')
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.ingest+"/events", &body)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		res, err := r.client.Do(req)
		if err != nil {
			return 0, fmt.Errorf("post again: %w", err)
		}
		var answer struct {
			Accepted int `json:"accepted"`
			ID       string
			Status   string `json:"status"` // of a batch of one
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || err != nil {
			return 0, fmt.Errorf("post again: status %d, %v", res.StatusCode, err)
		}
		forgotten += answer.Accepted
		if answer.Status == "accepted" {
			forgotten++
		}
	}
	return forgotten, nil
}

// damaged is how many things the relay says it could not read.
func (r *relay) damaged(ctx context.Context) (int, error) {
	var all struct {
		Queue struct {
			Damaged int `json:"damaged"`
		} `json:"queue"`
	}
	err := r.call(ctx, http.MethodGet, "http://"+r.admin+"/stats", &all)
	return all.Queue.Damaged, err
}
