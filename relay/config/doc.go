// Package config is the TOML file: its keys, what they may be, and what is wrong when they aren't.
//
// keys.go is the table of all keys, a row for each: its name, its kind, its default and what it means. A kind (kind.go, and beside
// what is special to one: secret.go, file.go, url.go …) reads a value, has its bounds in words, and its part of the JSON Schema. From
// the rows follow the reader, its faults about single keys, the defaults (section.go), what a reload changes (diff.go), what is shown
// of an endpoint, the schema (schema.go) and, written by a test, config.example.toml and the manual's list. Who adds a key adds its
// row and the field that it fills (config.go).
//
// A file goes through these steps. The toml library turns it into maps, and speaks up if it isn't TOML (load.go); on which line each
// key stands, which the library doesn't tell, is read from the text (lines.go). Each section is filled from its rows (table.go);
// then is judged what keys ask of each other, of files and of the environment (listener.go, source.go, endpoint.go, onfailed.go). A key
// that can't be used is noted as a Fault and keeps its default, so that one run shows everything that is wrong:
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
