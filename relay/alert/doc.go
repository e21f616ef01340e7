// Package alert tells what goes wrong with the relay, as events of its own queue, so that an endpoint subscribes to them
// like to anything else:
//
//	delivery (news, failures) ─┐
//	queue (free disk)         ─┼▶ Desk ─▶ queue.Append, source "relay" ─▶ lanes of those that subscribed to "relay.…"
//	certificates              ─┘
//
// The desk is one goroutine. It asks each second and whenever there are news. A failing alert raises none: what an
// endpoint that takes alerts does is no news, and failed deliveries of alerts are not counted (delivery/news.go).
//
// When the disk is low the queue refuses events, alerts too. So relay.disk.low is raised somewhat above the mark at which
// it does, and should the disk have filled faster than that, it is sent past the queue, once, to every endpoint that
// subscribed to it. Other alerts wait in memory until the queue takes them.
//
// If we die here, news that the queue had not yet taken are lost, with what they were about still there to be seen:
// the endpoints' states in /stats, low disk, which is told again at once.
//
// Heartbeat is the other way round: it calls a URL as long as all is well, for a service that tells when the calls stop.
package alert
