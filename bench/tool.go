package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/mapping"
)

// A tool is a build with a mapping of one index, and a slot, publication and control schema of
// its own. So the tools of two builds follow the same tables, and catch up with the same changes.
type tool struct {
	*build
	file    string
	config  *mapping.Config
	id      string    // slot, publication and control schema
	index   string    // the alias
	log     io.Writer // copy of the log, or nil
	profile string    // folder; "" has the binary run
	servers *servers
}

// newTools makes a tool of each build. index is the YAML of the index, without a name and not
// indented.
func (b *bench) newTools(what, index string) ([]*tool, error) {
	var tools []*tool
	for _, build := range b.builds {
		t, err := b.newTool(build, what, index)
		if err != nil {
			return nil, err
		}
		tools = append(tools, t)
	}
	return tools, nil
}

func (b *bench) newTool(build *build, what, index string) (*tool, error) {
	s := b.servers
	t := &tool{
		build: build, id: s.name + "_" + what + "_" + build.letter, index: s.name + "-" + what + "-" + build.letter, profile: b.o.profile, servers: s,
	}
	t.file = filepath.Join(b.folder, t.id+".yaml")
	if b.o.verbose {
		t.log = b.told
	}
	if b.o.reindex != "" {
		index += "\nreindex: " + b.o.reindex
	}
	bulk := ""
	if b.o.bulk != "" {
		bulk = "\n  bulk: " + b.o.bulk
	}
	kafka := ""
	if build.partitions > 0 {
		kafka = fmt.Sprintf("\nkafka: {brokers: [%s], topic: %s, partitions: %d, max_lag: 1000000000}", strings.Join(s.brokers, ", "), t.id, build.partitions)
		if b.o.kafka != "" {
			kafka = strings.TrimSuffix(kafka, "}") + ", " + b.o.kafka + "}"
		}
	}
	yaml := fmt.Sprintf(`postgres: {url: %q, slot: %[2]s, publication: %[2]s, control_schema: %[2]s}
search:
  urls: [%q]%s%s
admin: {listen: "127.0.0.1:0"}
verify: {every: "off"}  # a comparison of its own would be measured as well
indices:
  %s:
    settings: {refresh_interval: 1s}  # without it nobody refreshes an index that is not searched
    %s
`, s.url, t.id, s.search.url, bulk, kafka, t.index, strings.ReplaceAll(strings.TrimSpace(index), "\n", "\n    "))
	err := os.WriteFile(t.file, []byte(yaml), 0o600)
	if err == nil {
		t.config, err = mapping.Read(t.file)
	}
	return t, err
}

// remove removes what the tool has made on the servers.
func (t *tool) remove(ctx context.Context, conn *pgx.Conn) error {
	if err := t.servers.search.drop(ctx, t.index); err != nil {
		return err
	}
	if err := dropSlot(ctx, conn, t.id); err != nil {
		return err
	}
	for _, statement := range []string{"drop publication if exists %s", "drop schema if exists %s cascade"} {
		if _, err := conn.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{t.id}.Sanitize())); err != nil {
			return err
		}
	}
	return nil
}

// onceLimit bounds one run --once.
const onceLimit = 15 * time.Minute

// once has the tool catch up and leave.
func (t *tool) once(ctx context.Context, step string) (u usage, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, onceLimit, fmt.Errorf("tidemark run --once takes more than %s", onceLimit))
	defer cancel()
	before, err := t.servers.written(ctx, t.index)
	if err != nil {
		return u, err
	}
	var log bytes.Buffer
	if t.profile != "" {
		u, err = t.inside(ctx, step, &log)
	} else {
		var p *process
		if p, err = t.start(&log, "--once"); err != nil {
			return u, err
		}
		u, err = p.wait(ctx)
	}
	if err == nil && u.Failed != "" {
		err = errors.New(u.Failed)
	}
	if err != nil {
		return u, fmt.Errorf("%s run --once: %w: %s", t.name, err, tail(log.Bytes()))
	}
	u.filling, u.following = times(log.Bytes(), u.Begin.Add(u.Wall))
	if u.following <= 0 {
		return u, fmt.Errorf("%s run --once: its log does not say when it began to follow the slot: %s", t.name, tail(log.Bytes()))
	}
	after, err := t.servers.written(ctx, t.index)
	u.written = after.since(before)
	return u, err
}

// start starts the tool.
func (t *tool) start(log io.Writer, args ...string) (*process, error) {
	if t.log != nil {
		log = io.MultiWriter(log, t.log)
	}
	return start(log, append([]string{t.binary, "run", "-c", t.file}, args...)...)
}

// times finds in a log how long the filling of the index took, 0 where there was nothing to
// fill, and how long it was from the first message of the slot until end.
func times(log []byte, end time.Time) (filling, following time.Duration) {
	for line := range strings.Lines(string(log)) {
		var l struct {
			Time             time.Time
			Msg, Index, Took string
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		switch l.Msg {
		case "done":
			if took, err := time.ParseDuration(l.Took); err == nil && l.Index != "" {
				filling = took
			}
		case "following the slot":
			if following == 0 {
				following = end.Sub(l.Time)
			}
		}
	}
	return filling, following
}

func tail(log []byte) []byte {
	return bytes.TrimSpace(log[max(0, len(log)-3000):])
}
