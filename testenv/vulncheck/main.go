// Command vulncheck runs govulncheck over packages of this module:
//
//	go run ./testenv/vulncheck [-database VERSION] [PACKAGES…]
//
// The database of known vulnerabilities is made of the Go module it is kept in, so
// that nothing else has to be reached than where modules come from, and only once for
// each version: they are kept in the cache of package testenv. The exit code is
// govulncheck's, 3 where it found something.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"tidemark/testenv"
)

const (
	toolVersion = "v1.9.0" // of govulncheck
	database    = "golang.org/x/vulndb"
)

func main() {
	version := flag.String("database", "latest", "version of the module "+database)
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := run(ctx, *version, packages)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
	}
	os.Exit(code)
}

// run gives the exit code.
func run(ctx context.Context, version string, packages []string) (int, error) {
	tool, folder, err := prepare(ctx, version)
	if err != nil {
		return 1, fmt.Errorf("%w\nwhat it needs is fetched once, by the go command: run it where Go modules can be downloaded, or set GOPROXY", err)
	}
	cmd := exec.CommandContext(ctx, tool, append([]string{"-db", "file://" + folder}, packages...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil // it has said why
	}
	if err != nil {
		return 1, fmt.Errorf("govulncheck: %w", err)
	}
	return 0, nil
}

// prepare returns the path of govulncheck and the folder of the database.
func prepare(ctx context.Context, version string) (tool, folder string, err error) {
	if version == "latest" {
		m, err := download(ctx, version)
		if err != nil {
			return "", "", err
		}
		version = m.Version
	}
	// It must be built by a release of Go not older than the one whose code it reads.
	bin, err := testenv.Cached(ctx, "govulncheck-"+toolVersion+"-"+runtime.Version(), func(ctx context.Context, folder string) error {
		_, err := goCommand(ctx, []string{"GOBIN=" + folder}, "install", "golang.org/x/vuln/cmd/govulncheck@"+toolVersion)
		return err
	})
	if err != nil {
		return "", "", err
	}
	folder, err = testenv.Cached(ctx, "vulndb-"+version, func(ctx context.Context, folder string) error {
		m, err := download(ctx, version)
		if err != nil {
			return err
		}
		_, err = goCommand(ctx, nil, "run", database+"/cmd/indexdb@"+version, "-vulns", filepath.Join(m.Dir, "data", "osv"), "-out", folder)
		return err
	})
	return filepath.Join(bin, "govulncheck"), folder, err
}

// A module is what go mod download says of one.
type module struct {
	Version string
	Dir     string // where it is
	Error   string // "" if it is there
}

func download(ctx context.Context, version string) (m module, err error) {
	out, err := goCommand(ctx, nil, "mod", "download", "-json", database+"@"+version)
	if parsed := json.Unmarshal(out, &m); err == nil && parsed != nil {
		err = fmt.Errorf("go mod download: %w", parsed)
	}
	if m.Error != "" { // the reason of err
		err = errors.New(m.Error)
	}
	return m, err
}

// goCommand returns what the go command prints; its complaints are in the error.
func goCommand(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out, nil
}
