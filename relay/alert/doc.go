// Package alert tells what goes wrong with the relay, as events of its own queue, so that an endpoint subscribes to them
// like to anything else:
//
//	delivery (transitions, failures) ─┐
//	queue (free disk)                ─┼▶ Alerter ─▶ queue.Append, source "relay" ─▶ lanes of those that subscribed to "relay.…"
//	certificates                     ─┘
//
// The Alerter is one goroutine. It asks each second and whenever there are transitions. An alert that fails raises no other: the
// transitions of an endpoint that takes alerts are not reported, and failed deliveries of alerts are not counted
// (delivery/reports.go).
//
// When the disk is low the queue refuses events, alerts too. So relay.disk.low is raised somewhat above the threshold at which it
// does. Should the disk have filled faster than that, the alert is sent past the queue, once, to every endpoint that subscribed to
// it. Other alerts wait in memory until the queue takes them.
//
// If we die here, alerts that the queue had not yet taken are lost; what they were about can still be seen: the endpoints' states in
// /stats, and low disk, for which an alert is raised again at once.
//
// Heartbeat is the other way round: it calls a URL as long as all is well, for a service that tells when the calls stop.
package alert
