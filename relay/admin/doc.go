// Package admin is what an operator looks at and turns with curl: health, stats, the events and their stories, the endpoints,
// what failed for them and its replays, pausing and resuming. Nothing here is on the way of an event.
package admin
