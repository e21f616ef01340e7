// Package client makes the attempts: one attempt is one POST of one event to one endpoint, and what came of it.
//
//	Request ─▶ body.go, request.go ─▶ pool.go ─┬─ idle connection ──────────────┬▶ attempt.go: send, read
//	           format, headers,                └─ dial.go: guard, proxy, trust ─┘        │
//	           signature                                                                 ▼
//	                                          Outcome ◀─ excerpt.go, mask.go ◀─ answer.go, socket.go
//	                                                  ◀─ failure.go, explain.go (when there is no answer)
//
// A Client belongs to one endpoint as it was configured: its template (request.go), its connections (pool.go), whom they may
// reach (guard.go), by which way (proxy.go), and whom they trust (trust.go, which explain.go puts into words). answer.go reads
// an answer and never more than socket.go allows; retryafter.go and skew.go read its headers.
//
// The package knows neither queue nor lanes, decides nothing about retries, and keeps no state beyond connections, the
// certificate that was last shown and the endpoint's clock. package delivery imports it; it never imports delivery.
package client
