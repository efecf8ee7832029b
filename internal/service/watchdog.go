package service

import (
	"context"
	"fmt"
	"time"

	"tidemark/internal/admin"
	"tidemark/internal/systemd"
)

// statusInterval is how often the service manager is told in a few words how it is.
const statusInterval = 30 * time.Second

// tellManager tells the service manager that the start is over, and then how the process is, until
// ctx is done: its watchdog goes by what sign says. A manager that cannot be told is one that ends the process
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
	go func() { watched <- m.Watch(ctx, s.sign) }()
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

// sign says whether something is done. What follows the slot goes round several times between two
// looks, with nothing to do and while a server is away as well; while a batch is written, requests
// and statements end. Where none of that is so the process hangs, unless it waits for somebody: for the
// answer to a request or a statement, each of which has a bound, before the next attempt, for a lock that a migration holds, for
// standbys, for what an alarm names.
func (s *Service) sign() systemd.Sign {
	stream := s.syncer.Status()
	return systemd.Sign{
		Steps: s.syncer.Progress() + s.steps.Load(),
		Waits: s.bulk.Stats().Waiting.Load() > 0 || s.syncer.IsReading() || stream.LockWait != nil || stream.StandbyWait != nil || len(s.alarm.Reasons()) > 0,
	}
}

// inWords says how the process is.
func inWords(s *admin.Status) string {
	switch {
	case s.Failure != "":
		return "ends: " + s.Failure
	case len(s.Alarms) > 0:
		return "held back: " + s.Alarms[0].Key
	case !s.Connected:
		return "waits for slot " + s.Slot
	case s.Behind > time.Second:
		return fmt.Sprintf("%s behind", s.Behind.Round(time.Second))
	}
	return "in step with slot " + s.Slot
}
