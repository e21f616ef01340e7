package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// cycle is everything that happens, once.
func (h *healthRun) cycle(ctx context.Context, began time.Time) error {
	set := func(name string, bad bool) func() error {
		return func() error {
			for _, k := range h.ends {
				if k.name == name {
					k.bad.Store(bad)
				}
			}
			return nil
		}
	}
	reload := func() error {
		h.result.Reloads++
		if err := h.relay.configure(h.endpoints()); err != nil {
			return err
		}
		return h.both(func(r *relay) error { return r.proc.cmd.Process.Signal(syscall.SIGHUP) })
	}
	host := func(verb string) func() error {
		return func() error {
			// What is known of the host's place is forgotten, as it is by itself in a minute.
			if err := tool("ip", "neigh", "flush", "dev", nearDevice); err != nil {
				return err
			}
			return tool("nsenter", "--net="+h.far.path, "ip", "addr", verb, heldAddress+"/24", "dev", farDevice)
		}
	}
	freeze := func() error { return h.freeze(ctx, h.timeout*3/2) }
	kill := func() error {
		h.result.Kills++
		return h.restart(ctx, func(r *relay) error { r.proc.kill(); return nil })
	}
	stop := func() error {
		h.result.Stops++
		return h.restart(ctx, (*relay).stop)
	}
	for _, act := range []struct {
		at float64 // seconds
		do func() error
	}{
		{2, set("hanging", true)}, {4, reload}, {5, host("del")}, {7, reload}, {8, freeze}, {12, set("hanging", false)}, {13, kill}, {17, reload},
		{20, host("add")}, {21, reload}, {23, h.unplug}, {26, freeze}, {29, h.plug}, {31, reload}, {34, freeze}, {37, stop}, {40, reload}, {42, reload}, {44.9, func() error { return nil }},
	} {
		pause(ctx, time.Until(began.Add(time.Duration(act.at*float64(time.Second)))))
		if err := errors.Join(ctx.Err(), h.relay.alive(), h.twin.alive()); err != nil {
			return err
		}
		if err := act.do(); err != nil {
			return fmt.Errorf("at %.0f s: %w", act.at, err)
		}
	}
	return nil
}

// disturb does something to both relays that holds up what they deliver, and keeps it out of what is measured.
func (h *healthRun) disturb(ctx context.Context, do func() error) error {
	h.calm.toggle(false, time.Now().Add(-healthLook))
	err := do()
	h.calm.toggle(true, time.Now().Add(time.Second))
	return err
}

func (h *healthRun) freeze(ctx context.Context, last time.Duration) error {
	h.result.Freezes++
	return h.disturb(ctx, func() error {
		signal := func(s syscall.Signal) error {
			return h.both(func(r *relay) error { return r.proc.cmd.Process.Signal(s) })
		}
		if err := signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, last)
		return signal(syscall.SIGCONT)
	})
}

func (h *healthRun) restart(ctx context.Context, end func(*relay) error) error {
	return h.disturb(ctx, func() error {
		return h.both(func(r *relay) error {
			if err := end(r); err != nil {
				return err
			}
			_, err := r.start(ctx)
			return err
		})
	})
}

// unplug takes the network away from this machine, plug gives it back.
func (h *healthRun) unplug() error {
	h.result.Cuts++
	err := tool("ip", "link", "set", nearDevice, "down")
	h.cut.toggle(true, time.Now())
	return err
}

func (h *healthRun) plug() error {
	h.cut.toggle(false, time.Now())
	return tool("ip", "link", "set", nearDevice, "up")
}
