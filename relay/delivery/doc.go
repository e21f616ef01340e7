// Package delivery brings events to endpoints.
//
// Every endpoint has a Lane: the state that the queue keeps for it, and up to Concurrency senders. It lives as long as its
// name; what a reload gives it is a course (course.go), an endpoint's configuration with a Client and connections of its own.
// A sender is a goroutine with one loop: take what is next, attempt it, judge the outcome, settle.
//
//	          ┌─ retry that is due ─┐
//	Lane.take ┤                     ├▶ client.Attempt ─▶ Judge ─▶ Lane.settle ─▶ queue: delivered, retry at T, failed
//	          └─ next of the log ───┘
//
// Whether anything may be taken is the gate's say (gate.go): an endpoint that is paused, that asked to be left alone, that
// is down or cannot be reached from here holds back what it has. What outcomes make of an endpoint's health is in health.go;
// it is saved with the lane's progress, so that a restart knows who is down. Those who are share a budget of probes
// (probes.go). What all attempts under way hold is bounded by places (places.go), and how many lanes that get no answer begin
// one at the same moment by starts (starts.go). Policy is pure and apart: these, verdict.go, and damper.go, which says what is
// told. How an attempt is made, from connection to excerpt, is package client's, which knows nothing of lanes.
//
// Post joins the lanes with the queue: it says which lanes an event is for, and starts and stops them. Configuring a name and
// giving up what is left of one take turns there. Its housekeeping goroutine gives up what was held longer than MaxAge and
// tells what lasts. Stopping: no lane takes anything more; attempts under way end or,
// when time is up, are cut short and put back; then the queue may be closed.
//
// If we die while an attempt is under way, or after it and before the queue has saved its outcome (0.1 s), it is made
// again with the same number.
package delivery
