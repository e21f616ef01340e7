// Package command has the commands that operate a relay which runs, in one table (table.go), from which their flags, their help
// and their lines in the list of all commands follow. Each asks the relay that runs with the configuration file, at its control
// socket or its admin listener, and prints the answer for people, or with -json as it came.
package command
