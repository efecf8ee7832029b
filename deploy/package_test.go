package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// build compiles the command.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tidemark")
	run(t, "go", "build", "-o", path, "tidemark")
	return path
}

// TestUnit has systemd read the units, and say how much the processes may do.
func TestUnit(t *testing.T) {
	analyze := optional(t, "systemd-analyze", "part of systemd")
	const command = "/usr/bin/tidemark"
	binary := build(t)
	for _, test := range []struct{ file, starts, name string }{
		{"tidemark.service", command + " run -c /etc/tidemark/tidemark.yaml\n", "tidemark.service"},
		{"tidemark-apply@.service", command + " apply -c /etc/tidemark/apply-%i.yaml\n", "tidemark-apply@1.service"},
	} {
		t.Run(test.file, func(t *testing.T) {
			text, err := os.ReadFile(test.file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "ExecStart="+test.starts) {
				t.Fatal("the unit does not start " + test.starts)
			}
			unit := filepath.Join(t.TempDir(), test.name)
			if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), command, binary)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := run(t, analyze, "verify", unit); strings.Contains(out, test.name) {
				t.Errorf("systemd says:\n%s", out)
			}
			out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
			if err != nil && !strings.Contains(string(out), "unrecognized option") { // of systemd 249 and older
				t.Errorf("the process may do more than it has to: %v\n%s", err, out)
			}
		})
	}
}

// What the watchdog ends is started again: a process of Go that crashes has to end by the signal, and
// not with exit code 2, which stands for a wrong configuration.
func TestCrashIsNoWrongConfiguration(t *testing.T) {
	text, err := os.ReadFile("tidemark.service")
	if err != nil {
		t.Fatal(err)
	}
	environment := regexp.MustCompile(`(?m)^Environment=(GOTRACEBACK=.*)$`).FindStringSubmatch(string(text))
	if environment == nil {
		t.Fatal("the unit sets no GOTRACEBACK")
	}
	// It waits for a database that takes the connection and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "tidemark.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "postgres: {url: \"postgres://a@%s/a\"}\nsearch: {urls: [\"http://127.0.0.1:1\"]}\nindices: {a: {table: a}}\n", l.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), build(t), "run", "-c", file)
	cmd.Env = append(os.Environ(), environment[1], "PGCONNECT_TIMEOUT=60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := cmd.Process.Signal(abort); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("after SIGABRT it ends with %v, not by the signal", err)
	}
}

// TestChart has the chart rendered with the least that it needs and with everything, and holds the
// result against the schemas of Kubernetes, and the mapping file in it against ours.
func TestChart(t *testing.T) {
	helm := optional(t, "helm", "go install helm.sh/helm/v4/cmd/helm@v4.3.1")
	for name, want := range map[string][]string{
		"least": {"kind: PodDisruptionBudget", "type: Recreate", "replicas: 1", "path: /readyz", "listen: :9630", "containerPort: 9630", "readOnlyRootFilesystem: true"},
		"everything": {"kind: ServiceMonitor", "kind: PrometheusRule", "alert: TidemarkLag", "{{ $labels.instance }}", "listen: :8080", "containerPort: 8080", "secretName: search",
			`["run","-c","/etc/tidemark/tidemark.yaml","--pprof"]`, "image: \"registry.example/tidemark:v9\"", "release: prometheus",
			`["apply","-c","/etc/tidemark/tidemark.yaml"]`, "name: x-tidemark-apply", "replicas: 3", "memory: 256Mi", "values: [tidemark, tidemark-apply]"},
	} {
		t.Run(name, func(t *testing.T) {
			values := filepath.Join("testdata", name+".values.yaml")
			run(t, helm, "lint", "--strict", "chart", "-f", values)
			out := run(t, helm, "template", "x", "chart", "-f", values)
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("no %s in\n%s", w, out)
				}
			}
			if name == "least" && strings.Contains(out, "monitoring.coreos.com") {
				t.Error("objects of the operator of Prometheus, which nobody has asked for")
			}
			if name == "least" && strings.Contains(out, "apply") {
				t.Errorf("workers, which nobody has asked for, in\n%s", out)
			}
			_, config, _ := strings.Cut(out, "tidemark.yaml: |\n")
			config, _, _ = strings.Cut(config, "\n---")
			_, err := mapping.Parse("tidemark.yaml", []byte(regexp.MustCompile(`(?m)^    `).ReplaceAllString(strings.ReplaceAll(config, "${file:/run/secrets/tidemark/password}", "x"), "")), func(string) (string, bool) { return "postgres://a@b/c", true })
			if err != nil {
				t.Errorf("%v in\n%s", err, config)
			}
			validate, err := exec.LookPath("kubernetes-validate")
			if err != nil {
				t.Log("kubernetes-validate is missing: pip install kubernetes-validate")
				return
			}
			file := filepath.Join(t.TempDir(), "out.yaml")
			if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, validate, "--strict", file)
		})
	}
	out, err := exec.CommandContext(t.Context(), helm, "template", "x", "chart").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "config is empty: put the mapping file there") {
		t.Errorf("without a mapping: %v %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), helm, "template", "x", "chart", "-f", filepath.Join("testdata", "least.values.yaml"), "--set", "apply.replicas=2").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "apply.replicas is set, but config has no kafka") {
		t.Errorf("workers without a Kafka: %v %s", err, out)
	}
}

// TestGoreleaser has what makes releases read what they are made by.
func TestGoreleaser(t *testing.T) {
	goreleaser := optional(t, "goreleaser", "go install github.com/goreleaser/goreleaser/v2@v2.15.1")
	// It wants a repository with a remote.
	folder := t.TempDir()
	text, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, ".goreleaser.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"git", "init", "-q"}, {"git", "remote", "add", "origin", "https://example.invalid/tidemark/tidemark.git"}, {goreleaser, "check"}} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	// What it packs is there, but for what the command makes before.
	for _, m := range regexp.MustCompile(`(?m)(?:src: |(?:postinstall|preremove): |^      - )([A-Za-z0-9_./*@-]+)`).FindAllStringSubmatch(string(text), -1) {
		if found, err := filepath.Glob("../" + m[1]); err != nil || len(found) == 0 && !strings.HasPrefix(m[1], "dist-help/") {
			t.Errorf("%s is not there", m[1])
		}
	}
}

// TestCompose has the demo's shop made on real servers, and its mapping keep it searchable; and the file read by
// docker compose where that is there.
func TestCompose(t *testing.T) {
	db, search := testenv.NewDatabase(t), testenv.SharedSearch(t, testenv.Engines(t)[0])
	shop, err := os.ReadFile("compose/shop.sql")
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, string(shop))
	text, err := os.ReadFile("compose/tidemark.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// With Kafka it is the same mapping, of which a worker needs no more than the cluster.
	byKafka, err := os.ReadFile("compose/tidemark-kafka.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if without := strings.Replace(string(byKafka), "kafka:\n  brokers: [\"kafka:9092\"]\n", "", 1); without != string(text) {
		t.Errorf("tidemark-kafka.yaml without kafka is not tidemark.yaml:\n%s", without)
	}
	if _, err := mapping.ParseApply("tidemark-kafka.yaml", byKafka, func(name string) (string, bool) { return "http://opensearch:9200", name == "SEARCH_URL" }, ""); err != nil {
		t.Error(err)
	}
	alias := search.NewPrefix(t) + "products"
	edited := strings.NewReplacer("  products:\n", "  "+alias+":\n", "postgres:\n", "postgres:\n  slot: "+db.Unique("slot")+"\n").Replace(string(text))
	if search.Engine != testenv.OpenSearch3 { // which alone has the language's analyzer here
		edited = strings.ReplaceAll(edited, ", analyzer: english", "")
	}
	c, err := mapping.Parse("tidemark.yaml", []byte(edited), func(name string) (string, bool) {
		url, ok := map[string]string{"DATABASE_URL": db.URL, "SEARCH_URL": search.URL}[name]
		return url, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	p, err := prepare.Prepare(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := service.Run(t.Context(), c, p, service.Options{Once: true, Logger: log, Display: progress.New(t.Output(), false, log)}); err != nil {
		t.Fatal(err)
	}
	if n := len(search.Documents(t, alias)); n != 8 {
		t.Errorf("%d products are found", n)
	}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		run(t, "docker", "compose", "-f", "compose/compose.yaml", "config", "-q")
		run(t, "docker", "compose", "-f", "compose/compose.yaml", "-f", "compose/kafka.yaml", "config", "-q")
	} else {
		t.Log("docker compose is missing: compose.yaml was not read by it")
	}
}

// TestImage builds the image by buildah, from this machine's Go in place of the image that nobody can
// pull here, and runs it by podman: read only, without capabilities, as nobody.
func TestImage(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("takes root on Linux")
	}
	if testing.Short() {
		t.Skip("takes minutes")
	}
	tools := make(map[string]string)
	for _, name := range []string{"buildah", "podman", "runc", "busybox"} {
		tools[name] = optional(t, name, "apt-get install buildah podman runc busybox-static")
	}
	folder := t.TempDir()
	storage := filepath.Join(folder, "storage.conf")
	if err := os.WriteFile(storage, fmt.Appendf(nil, "[storage]\ndriver = \"vfs\"\nrunroot = %q\ngraphroot = %q\n", filepath.Join(folder, "run"), filepath.Join(folder, "graph")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_STORAGE_CONF", storage)
	cmd := exec.CommandContext(t.Context(), "sh", "testdata/image.sh")
	cmd.Env = append(os.Environ(), "BUSYBOX="+tools["busybox"])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	podman := func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "podman", append([]string{"--runtime", "runc", "run", "--rm", "--pull=never", "--network=host", "--read-only", "--cap-drop=all",
			"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"}, args...)...)
	}
	out, err := podman("localhost/tidemark:test", "version").CombinedOutput()
	if err != nil {
		t.Fatalf("version: %v\n%s", err, out)
	}
	t.Logf("%s", out)

	db, search := testenv.NewDatabase(t), testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
	alias, listen := search.NewPrefix(t)+"t", free(t)
	file := filepath.Join(folder, "tidemark.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "postgres: {url: \"${DATABASE_URL}\", slot: %s}\nsearch: {urls: [%q]}\nadmin: {listen: %q}\nindices: {%s: {table: t}}\n", db.Unique("slot"), search.URL, listen, alias), 0o644); err != nil {
		t.Fatal(err)
	}
	running := podman("-v", file+":/etc/tidemark/tidemark.yaml:ro", "-e", "DATABASE_URL="+db.URL, "localhost/tidemark:test")
	running.Stderr = t.Output()
	running.Cancel = func() error { return running.Process.Signal(os.Interrupt) }
	running.WaitDelay = 20 * time.Second
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	deadline := time.Now().Add(2 * time.Minute)
	for !ready(t.Context(), listen) {
		select {
		case err := <-ended:
			t.Fatalf("the container has ended: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Error("the container does not get ready")
			break
		}
	}
	if err := running.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after the signal it ends with %v", err)
	}
	testenv.CheckSynced(t, db, search, alias, "t")
}

func ready(ctx context.Context, listen string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var answer struct{ Ready bool }
	return json.NewDecoder(resp.Body).Decode(&answer) == nil && answer.Ready
}
