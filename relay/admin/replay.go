package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/delivery"
)

// replayRequest is the body of POST /endpoints/{name}/replay: ids, or failed, or a time, each with what goes with it.
type replayRequest struct {
	IDs          []string
	Failed       bool
	Since, Until string
	Type, Class  texts
	Bin          string
	Rate         float64
	DryRun       bool
}

func (r *replayRequest) members() []member {
	return []member{
		{"ids", &r.IDs, "a list of texts"}, {"failed", &r.Failed, "true or false"}, {"since", &r.Since, "a text"}, {"until", &r.Until, "a text"},
		{"type", &r.Type, "a text or a list of texts"}, {"class", &r.Class, "a text or a list of texts"}, {"bin", &r.Bin, "a text"},
		{"rate", &r.Rate, "a number"}, {"dry_run", &r.DryRun, "true or false"},
	}
}

// replayAnswer tells what a replay will do, or would.
type replayAnswer struct {
	Endpoint string           `json:"endpoint"`
	DryRun   bool             `json:"dry_run"`
	Total    int64            `json:"total"`            // deliveries
	AtLeast  bool             `json:"at_least"`         // there are more than total, too many to count at once
	Skipped  []skipped        `json:"skipped"`          // of the ids
	Replay   *delivery.Replay `json:"replay,omitempty"` // the one that was started; missing when there is nothing to do
}

type skipped struct {
	ID     string `json:"id"`
	Reason string `json:"reason"` // not_kept, not_for_endpoint, pending or retrying
}

type replays struct {
	Endpoint string            `json:"endpoint"`
	Replays  []delivery.Replay `json:"replays"`
}

const (
	// countLimit is how long the deliveries of a replay are counted before it is started.
	countLimit = 2 * time.Second
	// maxReplayRate is more than any endpoint takes.
	maxReplayRate = 1e6
)

// replay starts a replay, or says what it would do.
func (a *Admin) replay(ctx *fasthttp.RequestCtx, t target) {
	var r replayRequest
	if wrong := readObject(ctx.PostBody(), `{"failed":true}`, r.members()); wrong != "" {
		answer.Error(ctx, 400, "invalid_replay", wrong)
		return
	}
	spec, reason := r.spec(time.Now())
	if reason != "" {
		answer.Error(ctx, 400, "invalid_replay", reason)
		return
	}
	said := replayAnswer{Endpoint: t.name, DryRun: r.DryRun, Skipped: []skipped{}}
	var err error
	if len(r.IDs) > 0 {
		if spec.Seqs, said.Skipped, err = a.replayed(t.queueLane, r.IDs); err != nil {
			a.unread(ctx, err, "the events could not be looked up")
			return
		}
		said.Total = int64(len(spec.Seqs))
	} else {
		var complete bool
		if said.Total, complete, err = t.queueLane.CountReplay(spec, countLimit); err != nil {
			a.unread(ctx, err, "the deliveries could not be counted")
			return
		}
		said.AtLeast = !complete
	}
	if r.DryRun || said.Total == 0 && !said.AtLeast {
		answer.Value(ctx, 200, said)
		return
	}
	total := said.Total
	if said.AtLeast {
		total = -1
	}
	status, err := t.queueLane.StartReplay(spec, total)
	if errors.Is(err, queue.ErrReplays) {
		answer.Error(ctx, 409, "too_many_replays", queue.ErrReplays.Error())
		return
	}
	if err != nil {
		a.unsaved(ctx, err, t.name)
		return
	}
	told := delivery.ReplayOf(status)
	said.Replay = &told
	a.Log.Info().Str("endpoint", t.name).Str("replay", status.ID).Int64("deliveries", said.Total).Msg("replay started by the operator")
	answer.Value(ctx, 202, said)
}

// spec says what is asked for, or what is wrong with it.
func (r *replayRequest) spec(now time.Time) (spec queue.ReplaySpec, wrong string) {
	ways := 0
	for _, way := range []bool{len(r.IDs) > 0, r.Failed, !r.Failed && (r.Since != "" || r.Until != "")} {
		if way {
			ways++
		}
	}
	spec = queue.ReplaySpec{Failed: r.Failed, Types: r.Type, Classes: classesOf(r.Bin, r.Class), Rate: r.Rate}
	var wrongSince, wrongUntil string
	spec.Since, wrongSince = parseMoment(r.Since, now)
	spec.Until, wrongUntil = parseMoment(r.Until, now)
	known := failedClasses()
	switch {
	case ways != 1:
		wrong = `say what to replay with one of "ids", "failed":true, or "since" and "until"`
	case len(r.IDs) > queue.MaxReplaySeqs:
		wrong = fmt.Sprintf("at most %d ids at a time", queue.MaxReplaySeqs)
	case len(r.IDs) > 0 && (len(r.Type) > 0 || r.Since != "" || r.Until != ""):
		wrong = `"ids" goes with "rate" and "dry_run" alone`
	case !r.Failed && (len(r.Class) > 0 || r.Bin != ""):
		wrong = `"class" and "bin" go with "failed":true alone`
	case wrongSince != "":
		wrong = "since " + wrongSince
	case wrongUntil != "":
		wrong = "until " + wrongUntil
	case r.Rate < 0 || r.Rate > maxReplayRate:
		wrong = "rate is deliveries a second, 0 for no limit"
	case r.Bin != "" && !slices.Contains(bins, r.Bin):
		wrong = "bin must be one of " + listed(bins)
	case slices.ContainsFunc(r.Class, func(class string) bool { return !slices.Contains(known, class) }):
		wrong = "class must be one of " + listed(known)
	default:
		wrong = checkTypes(r.Type)
	}
	return spec, wrong
}

func listed(words []string) string { return strings.Join(words, ", ") }

// replayed finds the events of the ids whose deliveries to a lane can be replayed.
func (a *Admin) replayed(lane *queue.Lane, ids []string) (seqs []uint64, not []skipped, err error) {
	not = []skipped{}
	standings, err := a.Queue.Standings(lane, ids)
	if err != nil {
		return nil, nil, err
	}
	for i, s := range standings {
		switch {
		case s.Seq == 0:
			not = append(not, skipped{ids[i], "not_kept"})
		case s.State == "":
			not = append(not, skipped{ids[i], "not_for_endpoint"})
		case s.State == queue.Pending || s.State == queue.Retrying:
			not = append(not, skipped{ids[i], s.State})
		default:
			seqs = append(seqs, s.Seq)
		}
	}
	slices.Sort(seqs)
	return slices.Compact(seqs), not, nil
}

func (a *Admin) listReplays(ctx *fasthttp.RequestCtx, t target) {
	list := replays{Endpoint: t.name, Replays: []delivery.Replay{}}
	for _, s := range t.queueLane.Replays() {
		list.Replays = append(list.Replays, delivery.ReplayOf(s))
	}
	answer.Value(ctx, 200, list)
}

func (a *Admin) cancelReplay(ctx *fasthttp.RequestCtx, t target) {
	status, err := t.queueLane.CancelReplay(t.id)
	if errors.Is(err, queue.ErrNoReplay) {
		answer.Error(ctx, 404, "no_replay", queue.ErrNoReplay.Error())
		return
	}
	if err != nil {
		a.unsaved(ctx, err, t.name)
		return
	}
	a.Log.Info().Str("endpoint", t.name).Str("replay", status.ID).Int64("taken_up", status.TakenUp).Msg("replay cancelled by the operator")
	answer.Value(ctx, 200, delivery.ReplayOf(status))
}
