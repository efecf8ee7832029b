package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
)

// inside has the tool catch up inside this process, and writes a CPU profile of that.
// What else this process does meanwhile is little, but its memory is not the tool's.
func (t *tool) inside(ctx context.Context, step string, log io.Writer) (usage, error) {
	f, err := os.Create(filepath.Join(t.profile, step+".pprof"))
	if err != nil {
		return usage{}, err
	}
	defer f.Close()
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{ReplaceAttr: durationsAsText}))
	runtime.GC()
	begin, before := time.Now(), processorTime()
	if err := pprof.StartCPUProfile(f); err != nil {
		return usage{}, err
	}
	err = t.service(ctx, logger)
	pprof.StopCPUProfile()
	return usage{Begin: begin, Wall: time.Since(begin), CPU: processorTime() - before}, err
}

func (t *tool) service(ctx context.Context, logger *slog.Logger) error {
	found, err := prepare.Prepare(ctx, t.config, logger)
	if err != nil {
		return err
	}
	defer found.Close()
	return service.Run(ctx, t.config, found, service.Options{Once: true, Logger: logger, Display: progress.New(io.Discard, false, logger)})
}

// processorTime is what this process has used of the processors.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// durationsAsText has durations in a log look as in that of the binary.
func durationsAsText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
