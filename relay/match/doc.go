// Package match says whose an event is: which of its members an endpoint asks for, how these are read from the event's JSON, whether
// they are what is asked for, and which of many endpoints ask for just this.
//
// It works on events in the form in which the relay keeps them (package ingest): compact, no member twice, texts and numbers written
// in one way each. In that form what is equal is written the same, so that values are compared as bytes. It reads no disk, keeps
// nothing of an event and has no lock.
package match
