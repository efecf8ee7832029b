package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// postgresSettings are near those of production: what a commit promises is on disk. But tables are
// vacuumed when they have been filled, and not in whatever step it is that autovacuum would choose.
var postgresSettings = map[string]string{
	"autovacuum": "off", "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
	"shared_buffers": "256MB", "max_wal_size": "4GB",
}

// servers are what the tool runs between. Everything made there carries name.
type servers struct {
	name     string
	admin    string // URL of Postgres' own database
	url      string // URL of the database that was made
	search   *search
	sink     *sink    // instead of a search server, or nil
	brokers  []string // of Kafka; nil: no step needs it
	told     string   // how they are configured
	closers  []func() error
	postgres string // version
}

// startServers starts what the environment does not name, and makes a database.
func startServers(ctx context.Context, o options) (s *servers, err error) {
	s = &servers{name: fmt.Sprintf("bench%x", rand.Uint32())}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.told = "as they are configured"
	s.admin = os.Getenv("TIDEMARK_TEST_POSTGRES_URL")
	if s.admin == "" {
		p, err := testenv.LaunchPostgres(ctx, testenv.PostgresOptions{Settings: postgresSettings})
		if err != nil {
			return nil, fmt.Errorf("start Postgres: %w", err)
		}
		s.closers = append(s.closers, p.Close)
		s.admin = p.URL("postgres")
		s.told = "fsync on, full_page_writes on, autovacuum off"
	}
	if o.sink {
		sink, err := startSink()
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, sink.close)
		s.search, s.sink = newSearch(sink.url), sink
	} else {
		engines, err := testenv.ParseEngines(o.engine)
		if err != nil || len(engines) != 1 {
			return nil, fmt.Errorf("-engine %s: want one engine: %w", o.engine, err)
		}
		where := os.Getenv(engines[0].URLVariable())
		if where == "" {
			p, err := testenv.LaunchSearch(ctx, engines[0], testenv.SearchOptions{Heap: o.heap})
			if err != nil {
				return nil, fmt.Errorf("start %s: %w", engines[0], err)
			}
			s.closers = append(s.closers, p.Close)
			where = p.URL
			s.told += ", heap " + o.heap
		}
		s.search = newSearch(strings.TrimRight(where, "/"))
	}
	s.closers = append(s.closers, s.search.close)
	if o.hasKafka() {
		if err := s.startKafka(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.createDatabase(ctx)
}

// startKafka starts a Kafka of one broker, unless the environment names one.
func (s *servers) startKafka(ctx context.Context) error {
	if list := os.Getenv(testenv.KafkaVariable); list != "" {
		s.brokers = strings.Split(list, ",")
		return nil
	}
	// With a compiler that does what it can: otherwise it would be the limit.
	k, err := testenv.LaunchKafka(ctx, testenv.KafkaOptions{Java: []string{"-XX:TieredStopAtLevel=4", "-Xmx1g"}})
	if err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	s.closers = append(s.closers, k.Close)
	s.brokers = k.Brokers()
	s.told += ", Kafka of one broker, heap 1g"
	return nil
}

func (s *servers) createDatabase(ctx context.Context) error {
	u, err := url.Parse(s.admin)
	if err != nil {
		return errors.New("TIDEMARK_TEST_POSTGRES_URL is not a URL") // its text may hold a password
	}
	u.Path = "/" + s.name
	s.url = u.String()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "show server_version").Scan(&s.postgres); err != nil {
		return err
	}
	s.postgres, _, _ = strings.Cut(s.postgres, " ")
	if _, err := conn.Exec(ctx, fmt.Sprintf("create database %s template template0 encoding 'UTF8' locale 'C.UTF-8'", s.name)); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { return s.dropDatabase(context.WithoutCancel(ctx)) })
	return nil
}

func (s *servers) dropDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := dropSlot(ctx, conn, s.name); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("drop database %s with (force)", s.name))
	return err
}

// dropSlot ends whoever has the slot, and drops it.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active_pid is not null", name); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", name)
	return err
}

// close undoes what start did, the last thing first.
func (s *servers) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}
