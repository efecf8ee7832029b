package service

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"tidemark/internal/admin"
)

// statusInterval is how often the service manager is told in a few words how it is.
const statusInterval = 30 * time.Second

// tellManager tells the service manager that the start is over, and then how the process is, until
// ctx is done: its watchdog goes by the pulse of what follows the slot. A manager that cannot be told is one that ends the process
// after a while, so that is said.
func (s *Service) tellManager(ctx context.Context) {
	m := s.o.Manager
	if m == nil {
		return
	}
	said := func(err error) {
		if err != nil {
			s.o.Logger.Warn("the service manager cannot be told how the process is, and may end it", "error", err)
		}
	}
	said(m.Ready())
	watched := make(chan error, 1)
	go func() { watched <- m.Watch(ctx, s.pulse.Silent) }()
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		status := s.Status()
		said(m.Status(inWords(&status)))
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	said(m.Stopping())
	said(<-watched)
}

// hangAfter is what Options.HangAfter is where nothing else is said: longer than the request and the statement
// take that are given up latest.
const hangAfter = 2 * time.Minute

// hang says which part of the process hangs, nil if none does. A server that is away, a lock that a migration
// holds, standbys, whatever an alarm names: all that is waited for with an end, or tried again, and so no hang.
func (s *Service) hang() *admin.Alarm {
	silent := s.pulse.Silent()
	if silent < cmp.Or(s.o.HangAfter, hangAfter) {
		return nil
	}
	return &admin.Alarm{Key: "the process hangs", Since: time.Now().Add(-silent), Text: fmt.Sprintf("what follows slot %s has given no sign for %s although one was due, and nothing is stored meanwhile; "+
		"hint: end it by SIGQUIT, which has it write what each goroutine does to stderr, and start it again: what is not stored comes again", s.config.Postgres.Slot, silent.Round(time.Second))}
}

// inWords says how the process is.
func inWords(s *admin.Status) string {
	switch {
	case s.Failure != "":
		return "ends: " + s.Failure
	case s.Hang != nil:
		return s.Hang.Key
	case len(s.Alarms) > 0:
		return "held back: " + s.Alarms[0].Key
	case !s.Connected:
		return "waits for slot " + s.Slot
	case s.Behind > time.Second:
		return fmt.Sprintf("%s behind", s.Behind.Round(time.Second))
	}
	return "in step with slot " + s.Slot
}
