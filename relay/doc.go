// Package relay joins the rooms: it starts them in order, serves them, and stops them in the reverse order.
//
//	listeners ─▶ ingest.Intake ─▶ queue.Queue ◀─▶ delivery.Post ─▶ endpoints
//	         ─▶ admin.Admin (looks at all of them)
//	            alert.Desk  (looks at queue and post, and puts what goes wrong into the queue as events)
//
// Stop order, senders before receivers: the intake refuses and lets requests under way end; the desk ends; the post lets
// attempts under way end, or cuts them short and puts them back when time is up; the admin listener, which has been
// answering all the while, closes; the queue saves the lanes' progress and closes last.
package relay
