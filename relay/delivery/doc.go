// Package delivery brings events to endpoints.
//
// Each endpoint has a Lane: what the queue stores for it, and up to Concurrency senders. The lane lasts as long as the endpoint's
// name; a reload gives it another generation (generation.go), which is the endpoint's configuration with a client and connections of
// its own. A sender is a goroutine with one loop: take what is next, attempt it, judge the outcome, settle.
//
//	          ┌─ retry that is due ─┐
//	Lane.take ┤                     ├▶ client.Attempt ─▶ Lane.settle (decision: Judge) ─▶ queue: delivered, retry at T, failed
//	          └─ next of the log ───┘
//
//	lane         lane.go, ask.go (take), deliver.go, settle.go, generation.go, pause.go, forward.go, expire.go
//	policy       verdict.go and decision.go (one attempt), gate.go, health.go, transitions.go and lag.go (one endpoint), flapping.go,
//	             poison.go, throughput.go
//	shared       probes.go, memorybudget.go, silentlanes.go, uplink.go, network.go
//	all lanes    dispatcher.go, routes.go, changes.go, deadletters.go, lasting.go, stalled.go
//	statistics   status.go, tally.go, meter.go, replay.go
//	told         reports.go (to package alert), lanelog.go
//	receivers    conformance.go (an event sent on request, and what a receiver has to do)
//	attempts     package client, which knows nothing of lanes
//
// The gate decides whether anything may be attempted: it holds back the deliveries of an endpoint that is paused, asked to wait, is
// down or can't be reached from here. health.go says what outcomes mean for the endpoint's health, which the queue saves with the
// lane's progress, so that a restart knows which endpoints are down. The shared budgets bound what all lanes do together: probes of
// endpoints that are down, memory of attempts under way, attempts that get no answer, bytes sent. verdict.go, gate.go and
// health.go have no clock, no lock and no I/O; decision.go applies them, under the lane's lock.
//
// The Dispatcher joins the lanes with the queue: it says which lanes an event is for, and starts and stops them. Its housekeeping
// goroutine has senders expire what was held longer than MaxAge, and reports what lasts. Another goroutine writes dead letters. To
// stop, no lane takes anything more; attempts under way end or, when time is up, are cut short and put back; then the queue may
// be closed.
//
// If we die during an attempt, or after it and before the queue has saved its outcome (0.1 s), the attempt is made again with the
// same number.
package delivery
