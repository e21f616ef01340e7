// Package admin is what an operator looks at and turns with curl: health, stats, the story of an event, pausing and
// resuming an endpoint. Nothing here is on the way of an event.
package admin
