package main

import (
	"context"
	"errors"
	"io"
	"os"
)

// busyVariable is set in the environment of a busy loop alone.
const busyVariable = "TIDEMARK_BENCH_BUSY"

// beBusy is a busy loop's main.
func beBusy() {
	for n := 0; ; n++ {
		_ = n * n
	}
}

// startBusy starts n processes that take a core each, if they get it. The returned function
// ends them.
func startBusy(n int) (func() error, error) {
	var loops []*process
	end := func() error {
		var errs []error
		for _, p := range loops {
			p.end()
		}
		for _, p := range loops {
			_, err := p.wait(context.Background()) // has been told to end
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for range n {
		p, err := start(io.Discard, "env", busyVariable+"=1", self)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		loops = append(loops, p)
	}
	return end, nil
}
