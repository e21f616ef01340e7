// Package ingest is the intake: it takes requests of the sources, checks their credentials, turns bodies into events in
// canonical form, has the queue keep them, and answers.
//
//	request ─▶ source (path) ─▶ credential, over the raw bytes ─▶ Parser: events ─▶ route: lanes ─▶ queue.Append ─▶ 200
//
// Nothing of a request is kept: the queue copies what it stores before Append returns. If we die before Append has
// returned, the client has no answer and posts again; if after, the event is on disk and the repeat is a duplicate.
package ingest
