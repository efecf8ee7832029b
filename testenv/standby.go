package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StandbyOptions say how a standby follows its primary.
type StandbyOptions struct {
	// Slot is the physical slot of the primary that the standby uses; it is made if it is not there.
	Slot string
	// Settings are those of the standby beside the primary's own.
	Settings map[string]string
}

// StartStandby starts a standby of a server that is this test's own, which is stopped for a moment: the
// standby begins with a copy of its data. It is up when StartStandby returns, and has caught up. Where the
// data of the server are out of reach, as in a container, the test is skipped.
func StartStandby(t testing.TB, primary *Postgres, o StandbyOptions) *Postgres {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	p, err := launchStandby(ctx, primary, o)
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("TIDEMARK_TEST_REQUIRE") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("start a standby: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("end the standby: %v", err)
		}
	})
	return p
}

func launchStandby(ctx context.Context, primary *Postgres, o StandbyOptions) (*Postgres, error) {
	create := fmt.Sprintf("SELECT pg_create_physical_replication_slot('%s', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '%[1]s')", o.Slot)
	if err := execute(ctx, primary.URL("postgres"), create); err != nil {
		return nil, err
	}
	if err := primary.Stop(ctx); err != nil {
		return nil, err
	}
	data, err := primary.dataFolder()
	if err != nil {
		return nil, errors.Join(err, primary.Start(ctx))
	}
	standby, err := launch(ctx, "standby", PostgresOptions{}, func(ctx context.Context, p *process, port int, _ PostgresOptions) (*program, error) {
		if !primary.Running() { // not again, where another port has to be taken
			if err := copyFolder(ctx, data, primary.standbyFolder()); err != nil {
				return nil, errors.Join(err, primary.Start(ctx))
			}
			if err := primary.Start(ctx); err != nil {
				return nil, err
			}
		}
		return standbyOf(ctx, primary, p, port, o)
	})
	if err != nil {
		return nil, err
	}
	return standby, poll(ctx, func(ctx context.Context) error { return standby.follows(ctx) })
}

// standbyFolder is where the copy is that standbys of a server begin with.
func (p *Postgres) standbyFolder() string { return filepath.Join(p.process.folder, "standby") }

// standbyOf prepares the data of a standby.
func standbyOf(ctx context.Context, primary *Postgres, p *process, port int, o StandbyOptions) (*program, error) {
	data := filepath.Join(p.folder, "data")
	if err := copyFolder(ctx, primary.standbyFolder(), data); err != nil {
		return nil, err
	}
	slots := filepath.Join(data, "pg_replslot")
	if err := os.RemoveAll(slots); err != nil {
		return nil, err
	}
	signal := filepath.Join(data, "standby.signal")
	if err := errors.Join(os.Mkdir(slots, 0o700), os.WriteFile(signal, nil, 0o600)); err != nil {
		return nil, err
	}
	if err := errors.Join(giveTo(serverAccount(), slots), giveTo(serverAccount(), signal)); err != nil {
		return nil, err
	}
	host, primaryPort, _ := strings.Cut(primary.Addr(), ":")
	all := map[string]string{
		"cluster_name":      clusterName(p),
		"primary_slot_name": o.Slot,
		// Postgres itself has no use for a database here; the worker that copies slots has.
		"primary_conninfo":        fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=postgres application_name=%s", host, primaryPort, superuser, superuserPassword, o.Slot),
		"port":                    fmt.Sprint(port),
		"unix_socket_directories": p.folder,
	}
	maps.Copy(all, o.Settings)
	var conf strings.Builder
	for name, value := range all {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	if err := appendFile(filepath.Join(data, "postgresql.conf"), conf.String()); err != nil {
		return nil, err
	}
	prog := *primary.program
	prog.Args = []string{"-D", data}
	return &prog, nil
}

// follows returns an error while a standby receives nothing.
func (p *Postgres) follows(ctx context.Context) error {
	return execute(ctx, p.URL("postgres"), "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN RAISE 'the standby does not follow yet'; END IF; END $$")
}

// promoteLimit bounds a promotion: the worker that copies slots is waited for.
const promoteLimit = time.Minute

// Promote makes a standby the primary. It takes changes when Promote returns.
func (p *Postgres) Promote(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, promoteLimit)
	defer cancel()
	return execute(ctx, p.URL("postgres"), fmt.Sprintf("SELECT pg_promote(true, %d)", int(promoteLimit.Seconds())))
}
