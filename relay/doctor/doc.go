// Package doctor looks at a relay from outside: its configuration, the machine under it, and, through the admin listener,
// the process that serves. It has the commands doctor and route, and what check says of a running relay. It opens no queue
// and changes nothing.
package doctor
