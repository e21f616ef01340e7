// Package admin is what an operator looks at and turns, with curl or with the page that is in page/: health, stats, the events
// and their stories, the endpoints, what failed for them and its replays, pausing and resuming. Nothing here is on the way
// of an event.
//
// The page is plain HTML, CSS and JavaScript modules, embedded as they are written. It knows no more than the routes tell
// anybody; a browser has a session for a token. Answers that go on (eventstream.go) are few, each a goroutine that Close waits for.
package admin
