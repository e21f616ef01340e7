package relay

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// intakeGrace is how long a stop waits for requests that are still being sent: a slow sender must not use up the time of
	// the deliveries.
	intakeGrace = 2 * time.Second
	// savingTime is how long cutting short what is under way and saving it may take after the time of a stop is over.
	savingTime = 15 * time.Second
)

// Stop ends the relay. What is under way may go on until ctx is done, and saving takes up to 15 s more. Stop returns what could
// not be saved, or that something did not end: then the process has to.
func (r *Relay) Stop(ctx context.Context) error {
	return within(ctx, savingTime, func() error { return r.stop(ctx) })
}

// within bounds every wait of stop at once, whatever it waits for: until ctx is done, and as long as saving after that.
func within(ctx context.Context, saving time.Duration, stop func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- stop() }() // it ends, or the process does
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(saving)
	defer last.Stop()
	select {
	case err := <-ended:
		return err
	case <-last.C:
		return fmt.Errorf("the stop does not end %s after its time was over, a disk that hangs or a lock may be why: what was under way is attempted again after the next start", saving)
	}
}

func (r *Relay) stop(ctx context.Context) error {
	r.stopping.Store(true)
	if !r.applying.lockWithin(ctx) {
		return errors.New("a reload does not end: nothing was saved at the stop, and what was under way is attempted again after the next start")
	}
	r.applying.unlock()
	r.opening.end() // from here on the queue is there or never will be
	open := r.isOpen()
	if open {
		r.intake.Close()
	}
	grace, cancel := context.WithTimeout(ctx, intakeGrace)
	defer cancel()
	if err := r.intakeServer.ShutdownWithContext(grace); err != nil && grace.Err() == nil {
		r.log.Warn().Err(err).Msg("the intake did not close cleanly")
	}
	if open {
		r.background.cancel()
		r.background.ended.Wait()
		r.dispatcher.Stop(ctx)
		r.admin.Close(ctx)
	}
	short, cancelShort := context.WithTimeout(context.Background(), time.Second)
	defer cancelShort()
	_ = r.adminServer.ShutdownWithContext(short) // it reads from the queue, which closes next
	_ = r.controlServer.ShutdownWithContext(short)
	if !open {
		return nil
	}
	return r.queue.Close()
}

// closeServers ends the servers of a relay that could not be started. Who started it closes the listeners.
func (r *Relay) closeServers() {
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.intakeServer.ShutdownWithContext(short)
	_ = r.adminServer.ShutdownWithContext(short)
}
