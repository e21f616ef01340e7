// Package answer is the relay's HTTP side, the same on both listeners: sockets, TLS, limits, servers, and the form of answers.
//
//	listen.go ─▶ introduced.go, proxies.go ─▶ certificate.go, tls.go ─▶ limit.go, pace.go, refusals.go ─▶ server.go ─▶ handler
//	sockets      which client a proxy names   TLS, files read again     connections and who gets them      framing.go   answer.go
//
// Every error is {"error":{"code":…,"message":…}}, for one event of a batch with its "index". Codes are stable; messages
// are for people.
package answer
