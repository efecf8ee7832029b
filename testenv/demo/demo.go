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
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// The ports that are used if they are free, so that what is printed can be known by heart.
const (
	postgresPort = 5432
	searchPort   = 9200
	adminPort    = 9630
)

const (
	database  = "shop"
	endGrace  = 15 * time.Second // of tidemark, which finishes what it writes
	readyWait = 2 * time.Minute  // for the indices to be filled
)

// A demo is all that runs.
type demo struct {
	out      *printer
	postgres *testenv.Postgres
	search   *testenv.SearchServer
	sandbox  *testenv.Sandbox // of tidemark
	conn     *pgx.Conn
	shop     *shop
	url      string // of the database
	admin    string // URL
}

// open starts everything. What has started is in the demo also when the rest has not.
func open(ctx context.Context, out *printer) (*demo, error) {
	d := &demo{out: out}
	out.print("starting Postgres and OpenSearch; the first time they are downloaded, which takes a while")
	if err := d.startServers(ctx); err != nil {
		return d, err
	}
	if err := d.openShop(ctx); err != nil {
		return d, fmt.Errorf("fill the shop: %w", err)
	}
	return d, d.startTidemark(ctx)
}

func (d *demo) startServers(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var both sync.WaitGroup
	var postgresErr, searchErr error
	both.Go(func() {
		if d.postgres, postgresErr = testenv.LaunchPostgres(ctx, testenv.PostgresOptions{Port: postgresPort}); postgresErr != nil {
			postgresErr = fmt.Errorf("start Postgres: %w", postgresErr)
			cancel()
		}
	})
	both.Go(func() {
		if d.search, searchErr = testenv.LaunchSearch(ctx, testenv.OpenSearch3, testenv.SearchOptions{Port: searchPort, Heap: "512m"}); searchErr != nil {
			searchErr = fmt.Errorf("start OpenSearch: %w", searchErr)
			cancel()
		}
	})
	both.Wait()
	switch {
	case postgresErr != nil && errors.Is(searchErr, context.Canceled):
		return postgresErr
	case searchErr != nil && errors.Is(postgresErr, context.Canceled):
		return searchErr
	}
	return errors.Join(postgresErr, searchErr)
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
	if d.sandbox, err = testenv.NewSandbox("demo"); err != nil {
		return err
	}
	binary := filepath.Join(d.sandbox.Folder, "tidemark")
	d.out.print("building tidemark")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "tidemark")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build tidemark: %w: %s", err, text)
	}
	listen, err := freeAddress(ctx, adminPort)
	if err != nil {
		return err
	}
	d.admin = "http://" + listen
	text, err := mappingFile(d.url, d.search.URL, listen)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.mapping(), text, 0o644); err != nil {
		return err
	}
	d.out.print("tidemark run -c %s", d.mapping())
	log := func(line string) { d.out.line("tidemark", line) }
	if err := d.sandbox.Start(log, binary, "run", "-c", d.mapping(), "--log-format", "text"); err != nil {
		return fmt.Errorf("start tidemark: %w", err)
	}
	return d.awaitReady(ctx)
}

func (d *demo) mapping() string { return filepath.Join(d.sandbox.Folder, "tidemark.yaml") }

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
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.admin+"/readyz", nil)
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
		case <-d.sandbox.Ended():
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
		case <-d.sandbox.Ended():
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := d.shop.trade(ctx); err != nil {
			return fmt.Errorf("change the shop: %w", err)
		}
		if n%15 == 0 {
			d.out.print("so far %s; Ctrl-C ends all", &d.shop.done)
		}
	}
}

// close ends and removes everything, the last thing first.
func (d *demo) close(ctx context.Context) error {
	var errs []error
	if d.conn != nil {
		errs = append(errs, d.conn.Close(ctx))
	}
	if d.sandbox != nil {
		select {
		case <-d.sandbox.Ended(): // it has said why
		default:
			if err := d.sandbox.Stop(ctx, endGrace); err != nil {
				errs = append(errs, fmt.Errorf("tidemark: %w", err))
			}
		}
		errs = append(errs, d.sandbox.Close())
	}
	if d.search != nil {
		errs = append(errs, d.search.Close())
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Close())
	}
	return errors.Join(errs...)
}
