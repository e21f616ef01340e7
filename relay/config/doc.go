// Package config is the TOML file: its keys (config.go, whose comments are the manual), their defaults, what they may
// be, and what is wrong when they aren't.
//
// A file goes through three steps. The toml library turns it into maps, and speaks up if it isn't TOML (load.go). A scan
// of the text notes on which line each key stands, which the library doesn't tell (lines.go). Then the sections are read
// one after the other (load.go, source.go, endpoint.go): each key is asked for by name and checked, and what nobody asked
// for is unknown (table.go). A key that can't be used is noted as a Fault and keeps its default, so that one run shows
// everything that is wrong:
//
//	config.toml:12: endpoint.crm.timeout: must be from 100ms to 10m, not "50ms"
//
// What may be meant but is worth knowing (an endpoint without a secret, a short token) becomes a line of
// Config.Warnings instead.
//
// The package reads the file, the secrets and the TLS pair that it names, and nothing else. It has no state: loading
// again, for a reload, gives a new Config, and one that fails leaves the old one as it was. No secret gets into a fault,
// a warning or Describe.
package config
