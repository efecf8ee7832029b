package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// database and slot are those of the run; it has servers of its own.
const (
	database = "chaos"
	slot     = "chaos"
)

// A stage is all that a run takes place on: the servers, two instances, and the links between.
type stage struct {
	folder  string
	journal *journal
	binary  string

	postgres *testenv.Postgres
	search   *testenv.SearchServer
	proxy    *testenv.SearchProxy // in front of search, for both instances
	url      string               // of the database, past all links

	first, second *instance
	kafka         *backbone                   // nil: operations do not go through Kafka
	links         map[string]map[string]*link // instance -> postgres or search
	operator      *testenv.Sandbox            // runs commands
	mapping       mappingFile

	held  map[*fault]*testenv.Fault // what the proxy does in this round
	watch *watch
}

// open starts servers and links, makes the tables and builds the binary. What was started is in
// the stage also where the rest was not.
func open(ctx context.Context, o options, folder string, j *journal) (*stage, error) {
	s := &stage{folder: folder, journal: j, binary: filepath.Join(folder, "tidemark"), links: make(map[string]map[string]*link),
		mapping: mappingFile{slot: slot, variant: make(map[string]int)}}
	repository := filepath.Join(folder, "repository")
	if err := errors.Join(os.Mkdir(repository, 0o777), os.Chmod(repository, 0o777)); err != nil {
		return s, err
	}
	var all sync.WaitGroup
	var buildErr, postgresErr, searchErr, kafkaErr error
	all.Go(func() { buildErr = s.build(ctx, o.race) })
	all.Go(func() {
		s.postgres, postgresErr = testenv.LaunchPostgres(ctx, testenv.PostgresOptions{Settings: map[string]string{
			"wal_sender_timeout": "5s", // how long a connection that nobody answers on keeps the slot
			"max_wal_size":       "'256MB'",
		}})
	})
	all.Go(func() {
		s.search, searchErr = testenv.LaunchSearch(ctx, o.engine, testenv.SearchOptions{Heap: "512m", Settings: map[string]string{"path.repo": repository}})
	})
	if o.kafka {
		all.Go(func() { s.kafka, kafkaErr = openBackbone(ctx, folder, j) })
	}
	all.Wait()
	if err := errors.Join(buildErr, postgresErr, searchErr, kafkaErr); err != nil {
		return s, err
	}
	s.url = s.postgres.URL(database)
	if err := s.makeTables(ctx); err != nil {
		return s, err
	}
	if err := s.call(ctx, "PUT", "/_snapshot/chaos", fmt.Sprintf(`{"type":"fs","settings":{"location":%q}}`, repository)); err != nil {
		return s, err
	}
	s.watch = newWatch(s.url, s.search, s.kafka, j)
	var err error
	if s.proxy, err = s.search.LaunchProxy(); err != nil {
		return s, err
	}
	toxiproxies := newToxiproxy()
	for _, i := range []**instance{&s.first, &s.second} {
		name := "first"
		if i == &s.second {
			name = "second"
		}
		s.links[name] = make(map[string]*link)
		for side, target := range map[string]string{"postgres": s.postgres.Addr(), "search": s.proxy.Addr} {
			if s.links[name][side], err = newLink(toxiproxies, name+"-"+side, target); err != nil {
				return s, err
			}
		}
		if *i, err = newInstance(name, "run", folder, j); err != nil {
			return s, err
		}
	}
	for _, w := range s.workers() {
		l, err := newLink(toxiproxies, w.name+"-search", s.proxy.Addr)
		if err != nil {
			return s, err
		}
		s.links[w.name] = map[string]*link{"search": l}
	}
	if s.operator, err = testenv.NewSandbox("chaos-operator"); err != nil {
		return s, err
	}
	return s, s.writeMapping()
}

func (s *stage) build(ctx context.Context, race bool) error {
	args := []string{"build", "-o", s.binary}
	if race {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "tidemark")...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func (s *stage) makeTables(ctx context.Context) error {
	if err := s.exec(ctx, s.postgres.URL("postgres"), "CREATE DATABASE "+database); err != nil {
		return err
	}
	return s.exec(ctx, s.url, schema...)
}

// writeMapping writes the file of each instance and worker. Instances notice it when they start or by SIGHUP.
func (s *stage) writeMapping() error {
	for _, i := range s.instances() {
		u, err := url.Parse(s.url)
		if err != nil {
			return err
		}
		u.Host = s.links[i.name]["postgres"].proxy.Listen
		q := u.Query()
		q.Set("application_name", i.name)
		u.RawQuery = q.Encode()
		if err := writeFile(i.file, s.mapping.text(u.String(), "http://"+s.links[i.name]["search"].proxy.Listen, s.kafka.section())); err != nil {
			return err
		}
	}
	for _, w := range s.workers() {
		if err := writeFile(w.file, s.mapping.text(s.url, "http://"+s.links[w.name]["search"].proxy.Listen, s.kafka.section())); err != nil {
			return err
		}
	}
	return writeFile(s.operatorFile(), s.mapping.text(s.url, s.search.URL, s.kafka.section()))
}

func (s *stage) operatorFile() string { return filepath.Join(s.folder, "operator.yaml") }

func (s *stage) instances() []*instance { return []*instance{s.first, s.second} }

// workers are those of Kafka, none without it.
func (s *stage) workers() []*instance {
	if s.kafka == nil {
		return nil
	}
	return s.kafka.workers
}

// chosen returns the instances that a fault is about. Which one is active is asked of Postgres;
// where nobody is, or nobody can say, that is the first one.
func (s *stage) chosen(ctx context.Context, who string) []*instance {
	if workers := s.kafka.chosen(who); workers != nil {
		return workers
	}
	active := s.first
	if who == "active" || who == "passive" {
		if name, err := s.active(ctx); err == nil && name == s.second.name {
			active = s.second
		}
	}
	passive := s.first
	if active == s.first {
		passive = s.second
	}
	switch who {
	case "active":
		return []*instance{active}
	case "passive":
		return []*instance{passive}
	case "first":
		return []*instance{s.first}
	case "second":
		return []*instance{s.second}
	}
	return s.instances()
}

// active is the name of the instance that reads the slot, "" for none.
func (s *stage) active(ctx context.Context) (name string, err error) {
	err = s.query(ctx, `SELECT coalesce((SELECT split_part(application_name, ' ', 1) FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = $1), '')`, []any{slot}, &name)
	return name, err
}

// chosenLinks are those of the instances that a fault is about, on its side.
func (s *stage) chosenLinks(ctx context.Context, f *fault) (all []*link) {
	for _, i := range s.chosen(ctx, f.who) {
		all = append(all, s.links[i.name][f.side])
	}
	return all
}

// queryLimit bounds what is asked of a server beside the writers.
const queryLimit = 20 * time.Second

func (s *stage) exec(ctx context.Context, url string, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, statement := range statements {
		if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w", shorten(statement), err)
		}
	}
	return nil
}

// query reads one row.
func (s *stage) query(ctx context.Context, sql string, args []any, to ...any) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.QueryRow(ctx, sql, args...).Scan(to...)
}

// call asks the search server, past all links, for something that has to succeed.
func (s *stage) call(ctx context.Context, method, path, body string) error {
	var content []byte
	if body != "" {
		content = []byte(body)
	}
	status, answer, err := s.search.Do(ctx, method, path, content)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("status %d: %s", status, shorten(string(answer)))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// commandLimit is how long a command of the operator may take; it does not wait for work.
const commandLimit = time.Minute

// command has the operator run the binary. What it says, and how it ends, is told: there may be
// no database just then.
func (s *stage) command(ctx context.Context, args ...string) error {
	var mu sync.Mutex
	var last string
	read := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if text := strings.TrimSpace(line); text != "" {
			last = text
		}
	}
	if err := s.operator.Start(read, s.binary, append(args, "-c", s.operatorFile())...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	if err := s.operator.Wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("tidemark %s: %w", strings.Join(args, " "), err), s.operator.Stop(context.WithoutCancel(ctx), commandLimit))
	}
	mu.Lock()
	defer mu.Unlock()
	s.journal.say("  tidemark %s: %s: %s", strings.Join(args, " "), orSuccess(s.operator.Outcome()), shorten(last))
	return nil
}

// keepLogs writes what the servers said lately beside the logs of the instances.
func (s *stage) keepLogs() {
	logs := map[string]func() string{"postgres.log": s.postgres.Log, "search.log": s.search.Log}
	if s.kafka != nil {
		logs["kafka.log"] = s.node().Log
	}
	for name, log := range logs {
		if err := os.WriteFile(filepath.Join(s.folder, name), []byte(log()), 0o644); err != nil {
			s.journal.say("%v", err)
		}
	}
}

// close ends everything that has started.
func (s *stage) close() error {
	var errs []error
	for _, i := range s.instances() {
		if i != nil {
			errs = append(errs, i.close())
		}
	}
	errs = append(errs, s.kafka.close())
	if s.operator != nil {
		errs = append(errs, s.operator.Close())
	}
	for _, sides := range s.links {
		for _, l := range sides {
			if l != nil {
				l.proxy.Stop()
			}
		}
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	if s.search != nil {
		errs = append(errs, s.search.Close())
	}
	return errors.Join(errs...)
}
