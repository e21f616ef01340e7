// Package serve runs the relay as a service: what package relay joins, with the files, sockets and signals of this process.
//
//	serve.go      reads the configuration, starts the relay or says why not
//	attend.go     obeys signals until the end, reloads, and stops in stages
//	listeners.go  opens the listeners, or takes those that systemd passes
//	systemd.go    tells systemd how the relay is; feeds its watchdog
package serve
