// Package relay joins the packages that make up the relay: it starts them, serves their handlers, applies reloads and stops them
// in the order given below. Each part does its own work in its own package.
//
//	listeners (answer) ─▶ ingest.Intake ─▶ queue.Queue ◀─▶ delivery.Dispatcher ─▶ endpoints
//	                          └─ asks the dispatcher which lanes an event is for
//	                   ─▶ admin.Admin (reads all of them)
//	                      alert.Alerter (reads queue and dispatcher; alerts go into the queue as events)
//	                      alert.Heartbeat (asks intake and queue)
//
//	relay.go   the Relay, its listeners and its servers
//	open.go    opens the queue and starts what works with it; until then answers without a queue
//	reload.go  applies another configuration
//	           (lastgood has what goes on of an included file that is broken)
//	stop.go    ends it all
//
// The order of a stop is senders before receivers: the intake refuses and lets requests under way end; the alerter ends; the
// dispatcher lets attempts under way end, or cuts them short and puts them back when time is up; the admin listener, which has
// been answering all the while, closes; the queue saves the lanes' progress and closes last.
package relay
