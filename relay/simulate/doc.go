// Package simulate plays lives of the whole relay, months in minutes, and holds the promises of the manual against what happened.
// All of it is tests: nothing imports it.
//
//	play ─▶ world ─┬─ machine  ─▶ the relay as main.go builds it, its queue on a disk, the disk's faults
//	               ├─ network     connections, names and listeners in memory
//	               └─ actors      sources, receivers, an operator, and what happens to the machine
//	                     │ tell
//	                     ▼
//	                   ledger ◀─ model (what the manual promises) ◀─ invariants
//
// Time is virtual (testing/synctest). Whatever the actors do comes from a seed, each actor having random numbers of its own, so that
// one of them can be left out without changing the others. What goroutines do at the same moment does not come from the seed.
//
//	network    network_test.go, conn_test.go      disk      disk_test.go, power_test.go      machine   machine_test.go
//	world      world_test.go            actors    source_test.go, receiver_test.go, operator_test.go, fate_test.go
//	ledger     ledger_test.go           model     model_test.go      judged    invariants_test.go, liveness_test.go, looks_test.go, end_test.go
//	seeds      play_test.go, shrink_test.go          controls  mutants_test.go
package simulate
