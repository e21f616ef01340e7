package delivery

import (
	"fmt"
	"runtime/debug"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/delivery/client"
)

// deliver makes one attempt and settles its outcome.
func (l *Lane) deliver(d *queue.Delivery, f *flight) {
	number := d.Attempts + 1
	o := l.attempt(d, f.generation, number)
	defer l.silent.record(&o)()
	l.settle(d, f, number, o)
}

// attempt makes one attempt. A panic in it does not end the process: it counts as one failed attempt, and is logged.
func (l *Lane) attempt(d *queue.Delivery, g *generation, number int) (o client.Outcome) {
	began := l.now()
	defer func() {
		if what := recover(); what != nil {
			o = client.Outcome{At: began, Took: l.now().Sub(began), Class: client.ClassInternal, Err: client.OneLine(fmt.Sprintf("the relay itself failed: %v", what))}
			l.log.Error().Bytes("event", d.Event.ID).Any("panic", what).Str("stack", string(debug.Stack())).
				Msg("an attempt made the relay fail; it counts as a failed attempt, and others are not touched")
		}
	}()
	r := client.Request{ID: d.Event.ID, Type: d.Event.Type, Body: d.Event.Body, Attempt: number, Replay: queue.ReplayID(d.Replay)}
	if letter := queue.LetterOf(&d.Event); letter != nil {
		r.CopyOf = &client.FailedDelivery{Endpoint: letter.Lane, Class: letter.Class, Reason: letter.Reason}
	}
	return g.client.Attempt(&r)
}
