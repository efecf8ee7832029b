package service

import (
	"context"
	"os"
	"runtime"
	"time"
)

// A process that follows single changes hands each of them on between nine goroutines. With a
// second processor that has nothing to do, the runtime wakes a thread for each of these steps, which
// looks for work and finds none: a quarter of the processor time at 500 changes a second. So while
// there is little to do, there is one processor.
const (
	loadInterval = 250 * time.Millisecond // between two looks
	highLoad     = 0.5                    // of a processor: from here on all are used
	lowLoad      = 0.25                   // of a processor
	lowLooks     = 20                     // with a load so low, before there is one
)

// A processorLimit says, by the load, whether one processor is enough.
type processorLimit struct {
	one bool
	low int // looks with a low load in a row
}

// look takes up the load since the last look, in processors.
func (p *processorLimit) look(load float64) {
	switch {
	case load >= lowLoad:
		p.low = 0
		p.one = p.one && load < highLoad
	case p.low < lowLooks:
		p.low++
		p.one = p.one || p.low == lowLooks
	}
}

// limitProcessors has the process run on one processor while there is little to do, until ctx is
// done. Somebody who has set GOMAXPROCS knows better, and so does the runtime, which follows the
// limits of a container, about how many there are.
func limitProcessors(ctx context.Context) {
	before, ok := processorTime()
	if !ok || os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) == 1 {
		return
	}
	var limit processorLimit
	defer func() {
		if limit.one {
			runtime.SetDefaultGOMAXPROCS()
		}
	}()
	ticker := time.NewTicker(loadInterval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		used, _ := processorTime()
		was := limit.one
		limit.look((used - before).Seconds() / now.Sub(last).Seconds())
		before, last = used, now
		switch {
		case limit.one && !was:
			runtime.GOMAXPROCS(1)
		case was && !limit.one:
			runtime.SetDefaultGOMAXPROCS()
		}
	}
}
