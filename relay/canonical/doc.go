// Package canonical reads what clients post as events, and writes each in canonical form: the one that is stored, signed and sent.
// That form is what JavaScript's JSON.stringify(JSON.parse(text)) gives, but for numbers that would be lost (number.go).
//
//	parser.go      a body: one event, an array of them, or lines
//	event.go       one event: its members, and what is put in
//	canonical.go   values, objects and arrays, in one pass
//	text.go        strings
//	number.go, exact.go   numbers, as JavaScript writes them
//	member.go, order.go   names that are there twice, and JavaScript's order of names
//	timestamp.go   RFC 3339
//	unexpected.go  what is said to a client about text that is no JSON
//	javascript.go  looks through the form for numbers that JavaScript would change
//
// It knows neither requests nor the queue; what it allocates it takes from the caller's account first (package memory).
package canonical
