package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SearchOptions configure a server of one's own.
type SearchOptions struct {
	Heap     string            // of the Java machine, default "1g"
	Settings map[string]string // added to the server's configuration
	Port     int               // to listen on if it is free, default any that is free
}

// searchBootLimit bounds the wait for a started server.
const searchBootLimit = 3 * time.Minute

// A SearchServer is a running OpenSearch or Elasticsearch.
type SearchServer struct {
	server
	Engine Engine
	URL    string // no slash at the end

	client *http.Client
}

// SharedSearch is the server that the tests of this process share.
func SharedSearch(t testing.TB, e Engine) *SearchServer {
	t.Helper()
	SkipShort(t)
	shared, ok := sharedSearch[e]
	if !ok {
		t.Fatalf("no engine %q", e)
	}
	s, err := shared.get(func(ctx context.Context) (*SearchServer, error) {
		if u := os.Getenv(e.URLVariable()); u != "" {
			if _, err := url.Parse(u); err != nil {
				return nil, fmt.Errorf("%s is not a URL", e.URLVariable()) // its text may hold a password
			}
			return newSearchServer(e, strings.TrimRight(u, "/")), nil
		}
		s, err := LaunchSearch(ctx, e, SearchOptions{})
		if err == nil {
			s.shared = true
		}
		return s, err
	})
	if err != nil {
		skipOrFail(t, fmt.Errorf("shared %s: %w", e, err))
	}
	return s
}

// StartSearch starts a server for this test alone.
func StartSearch(t testing.TB, e Engine, o SearchOptions) *SearchServer {
	t.Helper()
	SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	s, err := LaunchSearch(ctx, e, o)
	if err != nil {
		skipOrFail(t, fmt.Errorf("start %s: %w", e, err))
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("end %s: %v", e, err)
		}
	})
	return s
}

// LaunchSearch starts a server; the caller closes it.
func LaunchSearch(ctx context.Context, e Engine, o SearchOptions) (*SearchServer, error) {
	if o.Heap == "" {
		o.Heap = "1g"
	}
	if docker() != "" {
		s, err := launchSearch(ctx, e, o, dockerSearch)
		if !errors.Is(err, errNoImage) {
			return s, err
		}
	}
	d, err := prepareDistribution(ctx, e)
	if err != nil {
		return nil, err
	}
	return launchSearch(ctx, e, o, d.program)
}

type prepareSearch func(context.Context, *process, Engine, int, SearchOptions) (*program, error)

// launchSearch prepares and boots a server, on other ports if somebody was faster.
func launchSearch(ctx context.Context, e Engine, o SearchOptions, prepare prepareSearch) (*SearchServer, error) {
	for try := 1; ; try++ {
		port, err := choosePort(o.Port, try)
		if err != nil {
			return nil, err
		}
		proc, err := newProcess(string(e))
		if err != nil {
			return nil, err
		}
		s := newSearchServer(e, "http://"+address(port))
		s.process = proc
		s.ready = s.waitReady
		s.program, err = prepare(ctx, proc, e, port, o)
		if err == nil {
			err = s.boot(ctx)
		}
		if err == nil {
			return s, nil
		}
		retry := try < 5 && proc.portTaken()
		if err = errors.Join(err, s.Close()); !retry {
			return nil, err
		}
	}
}

func newSearchServer(e Engine, url string) *SearchServer {
	return &SearchServer{Engine: e, URL: url, client: &http.Client{Transport: &http.Transport{}}}
}

// Close ends the server, unless somebody else started it, and removes its data.
func (s *SearchServer) Close() error {
	s.client.CloseIdleConnections()
	return s.close()
}

func (s *SearchServer) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, searchBootLimit, fmt.Errorf("no answer within %s", searchBootLimit))
	defer cancel()
	return poll(ctx, func(ctx context.Context) error {
		var health struct {
			Cluster string `json:"cluster_name"`
		}
		if err := s.get(ctx, "/_cluster/health?wait_for_status=yellow&timeout=10s", &health); err != nil {
			return err
		}
		if want := clusterName(s.process); health.Cluster != want {
			return fmt.Errorf("%s belongs to another server, %q", s.URL, health.Cluster)
		}
		return nil
	})
}

// Do sends a request; path begins with a slash and may have a query, body is
// JSON or lines of JSON, or nil. An answer of any status is no error.
func (s *SearchServer) Do(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// A statusError is an answer that is not 2xx.
type statusError struct {
	what   string
	status int
	answer []byte
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.what, e.status, e.answer)
}

// call is Do with an answer that must be 2xx and is decoded into to, unless nil.
func (s *SearchServer) call(ctx context.Context, method, path string, body []byte, to any) error {
	status, answer, err := s.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return &statusError{what: method + " " + path, status: status, answer: answer}
	}
	if to == nil {
		return nil
	}
	if err := json.Unmarshal(answer, to); err != nil {
		return fmt.Errorf("answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (s *SearchServer) get(ctx context.Context, path string, to any) error {
	return s.call(ctx, http.MethodGet, path, nil, to)
}

// NewPrefix makes a beginning for index names that no other test uses. Indices
// that begin with it are deleted at the end of the test.
func (s *SearchServer) NewPrefix(t testing.TB) string {
	t.Helper()
	prefix := fmt.Sprintf("t%d%x-", time.Now().Unix()%1e6, rand.Uint32())
	t.Cleanup(func() {
		if !s.Running() {
			return // the test stopped its own server, the indices go with it
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropLimit)
		defer cancel()
		if err := s.DeleteIndices(ctx, prefix+"*"); err != nil {
			t.Errorf("delete indices %s*: %v", prefix, err)
		}
	})
	return prefix
}

func dockerSearch(ctx context.Context, p *process, e Engine, port int, o SearchOptions) (*program, error) {
	b := builds[e]
	c := container{port: 9200, image: b.image + ":" + b.version, env: map[string]string{
		"discovery.type": "single-node",
		"cluster.name":   clusterName(p),
		"cluster.routing.allocation.disk.threshold_enabled": "false",
	}}
	heap := "-Xms" + o.Heap + " -Xmx" + o.Heap
	if e.IsOpenSearch() {
		c.env["DISABLE_SECURITY_PLUGIN"] = "true"
		c.env["DISABLE_INSTALL_DEMO_CONFIG"] = "true"
		c.env["OPENSEARCH_JAVA_OPTS"] = heap
	} else {
		c.env["xpack.security.enabled"] = "false"
		c.env["ES_JAVA_OPTS"] = heap
	}
	maps.Copy(c.env, o.Settings)
	prog, err := createContainer(ctx, p, c, port)
	if err != nil {
		return nil, err
	}
	prog.stop = syscall.SIGTERM
	return prog, nil
}

// writeConfig writes the configuration of a local server.
func writeConfig(home, name string, p *process, port, transport int, o SearchOptions) error {
	config := filepath.Join(home, "config")
	if err := os.Mkdir(config, 0o755); err != nil {
		return err
	}
	settings := map[string]string{
		"cluster.name":   clusterName(p),
		"discovery.type": "single-node",
		"network.host":   "127.0.0.1",
		"http.port":      fmt.Sprint(port),
		"transport.port": fmt.Sprint(transport),
		// A full disk is this machine's business, not a test's.
		"cluster.routing.allocation.disk.threshold_enabled": "false",
		// A snapshot repository of type fs has its location relative to it.
		"path.repo": filepath.Join(home, "repositories"),
	}
	maps.Copy(settings, o.Settings)
	text, err := json.Marshal(settings) // JSON is YAML
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, name), text, 0o644); err != nil {
		return err
	}
	logging, err := engines.ReadFile("engines/log4j2.properties")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(config, "log4j2.properties"), logging, 0o644)
}
