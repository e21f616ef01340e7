// Package ingest is the intake: it takes requests of the sources, checks their credentials, has package canonical turn bodies into
// events, has the queue keep them, and answers.
//
//	headers ─▶ source (path), token, types ─▶ address, rate ─▶ body ─▶ signature, over its bytes ─▶ canonical.Parser: events
//	                                                                           200 ◀─ queue.Append ◀─ route: lanes ◀─┘
//
// What the headers decide is answered before the body is read. A body takes memory as it comes, not as it is announced; a
// compressed one is bounded by what comes out of it, and its signature is over that. Everything that is held for a request,
// from the body to the answer, is taken from a budget before it is allocated (see budgets): until the request has shown its
// credential from that of strangers.
//
//	intake.go       the way of a request; body.go reads it, semaphore.go and memory.go bound what is read and held at a time
//	source.go       who may post; identity.go, exposed.go: ids that are signed, and sources without a credential
//	acknowledge.go  what is answered when events are stored; refusal.go when they are not; tally.go counts both
//	budget.go       memory in shares; buffers.go is what one request holds of it
//
// Nothing of a request is kept: the queue copies what it stores before Append returns. If we die before Append has
// returned, the client has no answer and posts again; if after, the event is on disk and the repeat is a duplicate.
package ingest
