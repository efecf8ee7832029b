package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tidemark/mapping"
)

// A tool is the binary and its mapping.
type tool struct {
	binary, file string
	config       *mapping.Config
	index        string    // the alias
	log          io.Writer // copy of the log, or nil
	profile      string    // folder; "" has the binary run
}

// newTool builds the binary and writes the mapping into folder.
func newTool(ctx context.Context, folder string, s *servers, o options, log io.Writer) (*tool, error) {
	t := &tool{binary: filepath.Join(folder, "tidemark"), file: filepath.Join(folder, "bench.yaml"), index: s.name + "-items", profile: o.profile}
	if o.verbose {
		t.log = log
	}
	yaml := fmt.Sprintf(`postgres:
  url: %s
  slot: %s
search:
  urls: [%s]
  bulk: {requests: %d}
admin: {listen: 127.0.0.1:0}
indices:
  %s:
    table: public.items
    settings: {refresh_interval: 1s}  # without it nobody refreshes an index that is not searched
`, s.url, s.name, s.search.url, o.requests, t.index)
	if err := os.WriteFile(t.file, []byte(yaml), 0o600); err != nil {
		return nil, err
	}
	var err error
	if t.config, err = mapping.Read(t.file); err != nil {
		return nil, err
	}
	if t.profile != "" {
		return t, os.MkdirAll(t.profile, 0o755)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", t.binary, "tidemark")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tool: %w: %s", err, out)
	}
	return t, nil
}

// onceLimit bounds one run --once.
const onceLimit = 15 * time.Minute

// once has the tool catch up and leave. The time of the filling alone is 0 where there
// was nothing to fill.
func (t *tool) once(ctx context.Context, step string) (u usage, filling time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, onceLimit, fmt.Errorf("tidemark run --once takes more than %s", onceLimit))
	defer cancel()
	var log bytes.Buffer
	if t.profile != "" {
		u, err = t.inside(ctx, step, &log)
	} else {
		var p *process
		if p, err = t.start(&log, "--once"); err != nil {
			return u, 0, err
		}
		u, err = p.wait(ctx)
	}
	if err == nil && u.Failed != "" {
		err = errors.New(u.Failed)
	}
	if err != nil {
		return u, 0, fmt.Errorf("tidemark run --once: %w: %s", err, tail(log.Bytes()))
	}
	return u, fillingTime(log.Bytes()), nil
}

// start starts the tool.
func (t *tool) start(log io.Writer, args ...string) (*process, error) {
	if t.log != nil {
		log = io.MultiWriter(log, t.log)
	}
	return start(log, append([]string{t.binary, "run", "-c", t.file}, args...)...)
}

// fillingTime finds in the log how long the filling of the index took.
func fillingTime(log []byte) time.Duration {
	for line := range strings.Lines(string(log)) {
		var l struct{ Msg, Index, Took string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "done" && l.Index != "" {
			if took, err := time.ParseDuration(l.Took); err == nil {
				return took
			}
		}
	}
	return 0
}

func tail(log []byte) []byte {
	return bytes.TrimSpace(log[max(0, len(log)-3000):])
}
