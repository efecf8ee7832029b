package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"tidemark/testenv"
)

// The ports that are used if they are free, so that what is printed can be known by heart.
const (
	postgresPort = 5432
	searchPort   = 9200
	kafkaPort    = 9092
	adminPort    = 9630 // of tidemark run; those of workers follow
)

// workerCount is how many write what comes by Kafka.
const workerCount = 2

const (
	database  = "shop"
	endGrace  = 15 * time.Second // of tidemark, which finishes what it writes
	readyWait = 2 * time.Minute  // for the indices to be filled
)

// A demo is all that runs.
type demo struct {
	out       *printer
	withKafka bool

	postgres *testenv.Postgres
	search   *testenv.SearchServer
	kafka    *testenv.Kafka // nil without -kafka
	tidemark *instance      // run
	workers  []*instance    // apply
	conn     *pgx.Conn
	shop     *shop
	url      string // of the database
}

// An instance is a tidemark that was started.
type instance struct {
	*testenv.Sandbox
	name  string
	admin string // URL
	told  bool   // of a worker: that it has ended
}

func (i *instance) mapping() string { return filepath.Join(i.Folder, "tidemark.yaml") }

// open starts everything. What has started is in the demo also when the rest has not.
func (d *demo) open(ctx context.Context) error {
	servers := "Postgres and OpenSearch"
	if d.withKafka {
		servers = "Postgres, OpenSearch and Kafka"
	}
	d.out.print("starting %s; the first time they are downloaded, which takes a while", servers)
	if err := d.startServers(ctx); err != nil {
		return err
	}
	if err := d.openShop(ctx); err != nil {
		return fmt.Errorf("fill the shop: %w", err)
	}
	return d.startTidemark(ctx)
}

func (d *demo) startServers(ctx context.Context) error {
	// The first error ends the other starts, and is the one that is told.
	all, ctx := errgroup.WithContext(ctx)
	start := func(what string, launch func() error) {
		all.Go(func() error {
			if err := launch(); err != nil {
				return fmt.Errorf("start %s: %w", what, err)
			}
			return nil
		})
	}
	start("Postgres", func() (err error) {
		d.postgres, err = testenv.LaunchPostgres(ctx, testenv.PostgresOptions{Port: postgresPort})
		return err
	})
	start("OpenSearch", func() (err error) {
		d.search, err = testenv.LaunchSearch(ctx, testenv.OpenSearch3, testenv.SearchOptions{Port: searchPort, Heap: "512m"})
		return err
	})
	if d.withKafka {
		start("Kafka", func() (err error) {
			d.kafka, err = testenv.LaunchKafka(ctx, testenv.KafkaOptions{Port: kafkaPort})
			return err
		})
	}
	return all.Wait()
}

// openShop makes and fills the database.
func (d *demo) openShop(ctx context.Context) error {
	admin, err := pgx.Connect(ctx, d.postgres.URL("postgres"))
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, "create database "+database); err != nil {
		return err
	}
	// Nobody is asked for a password, so what is to be copied need not have one.
	u, err := url.Parse(d.postgres.URL(database))
	if err != nil {
		return err
	}
	u.User = url.User(u.User.Username())
	d.url = u.String()
	if d.conn, err = pgx.Connect(ctx, d.url); err != nil {
		return err
	}
	d.shop, err = newShop(ctx, d.conn)
	if err == nil {
		d.out.print("filled the shop: %s", d.shop)
	}
	return err
}

// startTidemark builds the command, and waits until it has filled the indices.
func (d *demo) startTidemark(ctx context.Context) (err error) {
	if d.tidemark, err = d.newInstance(ctx, "tidemark", adminPort); err != nil {
		return err
	}
	binary := filepath.Join(d.tidemark.Folder, "tidemark")
	d.out.print("building tidemark")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "tidemark")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build tidemark: %w: %s", err, text)
	}
	if err := d.start(d.tidemark, binary, "run"); err != nil {
		return err
	}
	for n := 1; d.withKafka && n <= workerCount; n++ {
		w, err := d.newInstance(ctx, fmt.Sprintf("worker %d", n), adminPort+n)
		if err != nil {
			return err
		}
		d.workers = append(d.workers, w)
		if err := d.start(w, binary, "apply"); err != nil {
			return err
		}
	}
	return d.awaitReady(ctx)
}

// newInstance makes the folder of an instance, with a mapping file that has an admin address of its own.
func (d *demo) newInstance(ctx context.Context, name string, port int) (*instance, error) {
	listen, err := freeAddress(ctx, port)
	if err != nil {
		return nil, err
	}
	m := mappingValues{Database: d.url, Search: d.search.URL, Admin: listen}
	if d.kafka != nil {
		m.Brokers = strings.Join(d.kafka.Brokers(), ", ")
	}
	text, err := m.file()
	if err != nil {
		return nil, err
	}
	sandbox, err := testenv.NewSandbox("demo")
	if err != nil {
		return nil, err
	}
	i := &instance{Sandbox: sandbox, name: name, admin: "http://" + listen}
	if err := os.WriteFile(i.mapping(), text, 0o644); err != nil {
		return nil, errors.Join(err, sandbox.Close())
	}
	return i, nil
}

// start starts tidemark run or tidemark apply.
func (d *demo) start(i *instance, binary, command string) error {
	d.out.print("tidemark %s -c %s", command, i.mapping())
	log := func(line string) { d.out.line(i.name, line) }
	if err := i.Start(log, binary, command, "-c", i.mapping(), "--log-format", "text"); err != nil {
		return fmt.Errorf("start tidemark %s: %w", command, err)
	}
	return nil
}

// freeAddress returns HOST:PORT with the port if it is free, else with another one.
func freeAddress(ctx context.Context, port int) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		if l, err = config.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	return l.Addr().String(), l.Close()
}

var errEnded = errors.New("tidemark has ended")

// awaitReady waits until tidemark says that the indices hold what the tables do.
func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("tidemark is not ready after %s", readyWait))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.tidemark.admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(r); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-d.tidemark.Ended():
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trade changes the shop until ctx is done or tidemark ends.
func (d *demo) trade(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-d.tidemark.Ended():
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		d.noteWorkers()
		if err := d.shop.trade(ctx); err != nil {
			return fmt.Errorf("change the shop: %w", err)
		}
		if n%15 == 0 {
			d.out.print("so far %s; Ctrl-C ends all", &d.shop.done)
		}
	}
}

// noteWorkers says which workers have ended: the others go on with what was theirs.
func (d *demo) noteWorkers() {
	for _, w := range d.workers {
		select {
		case <-w.Ended():
			if !w.told {
				w.told = true
				d.out.print("%s has ended (%s); what it has not written, another one writes", w.name, w.Outcome())
			}
		default:
		}
	}
}

// close ends and removes everything, the last thing first.
func (d *demo) close(ctx context.Context) error {
	var errs []error
	if d.conn != nil {
		errs = append(errs, d.conn.Close(ctx))
	}
	if d.tidemark != nil {
		errs = append(errs, d.tidemark.end(ctx))
	}
	for _, w := range d.workers {
		errs = append(errs, w.end(ctx))
	}
	if d.kafka != nil {
		errs = append(errs, d.kafka.Close())
	}
	if d.search != nil {
		errs = append(errs, d.search.Close())
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Close())
	}
	return errors.Join(errs...)
}

// end stops the instance, if it runs, and removes its folder.
func (i *instance) end(ctx context.Context) error {
	var err error
	select {
	case <-i.Ended(): // it has said why
	default:
		if err = i.Stop(ctx, endGrace); err != nil {
			err = fmt.Errorf("%s: %w", i.name, err)
		}
	}
	return errors.Join(err, i.Close())
}
