package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A distribution is a search server put together from published artifacts:
//
//	lib/      jars
//	node.jar  the main class that starts it
//	modules/  what Elasticsearch from 8 on loads as modules
type distribution struct {
	engine  Engine
	folder  string
	java    jdk
	archive string // of classes as the JVM keeps them in memory, "" if it made none
}

// prepareDistribution fetches and compiles what e needs, once per machine.
func prepareDistribution(ctx context.Context, e Engine) (*distribution, error) {
	java, err := findJDK(builds[e].java)
	if err != nil {
		return nil, err
	}
	d := &distribution{engine: e, java: java}
	name := string(e) + "-" + recipe(string(e))
	d.folder, err = Cached(ctx, name, func(ctx context.Context, folder string) error {
		if builds[e].modules {
			return d.assembleModules(ctx, folder)
		}
		return d.assemble(ctx, folder)
	})
	if err != nil {
		return nil, err
	}
	if d.archive, err = classArchive(ctx, name+"-classes-"+java.build, d.archiveClasses); err != nil {
		return nil, err
	}
	return d, nil
}

// classArchive returns the file of loaded classes that a folder of the cache has, "" where the JVM could make none.
// fill fills the folder when it is not there yet.
func classArchive(ctx context.Context, name string, fill func(ctx context.Context, folder string) error) (file string, err error) {
	classes, err := Cached(ctx, name, fill)
	if err != nil {
		return "", err
	}
	if file = filepath.Join(classes, archiveName); !exists(file) {
		return "", nil
	}
	return file, nil
}

func (d *distribution) assemble(ctx context.Context, folder string) error {
	lib := filepath.Join(folder, "lib")
	if err := fetchJars(ctx, string(d.engine), lib); err != nil {
		return err
	}
	return d.java.compile(ctx, string(d.engine), d.mainClass()+".java", filepath.Join(lib, "*"), filepath.Join(folder, "node.jar"), builds[d.engine].java)
}

// assembleModules is assemble, and moves what must be loaded as modules to their folders.
func (d *distribution) assembleModules(ctx context.Context, folder string) error {
	if err := d.assemble(ctx, folder); err != nil {
		return err
	}
	lib, modules := filepath.Join(folder, "lib"), filepath.Join(folder, "modules")
	for _, m := range []string{"transport-netty4", "rest-root"} {
		text, err := engines.ReadFile(path.Join("engines", string(d.engine), m+".properties"))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(modules, m), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(modules, m, "plugin-descriptor.properties"), text, 0o644); err != nil {
			return err
		}
	}
	jars, err := os.ReadDir(lib)
	if err != nil {
		return err
	}
	for _, jar := range jars {
		if name := jar.Name(); strings.HasPrefix(name, "netty-") || strings.HasPrefix(name, "transport-netty4-") {
			if err := os.Rename(filepath.Join(lib, name), filepath.Join(modules, "transport-netty4", name)); err != nil {
				return err
			}
		}
	}
	return d.java.compile(ctx, string(d.engine), "RootPlugin.java", filepath.Join(lib, "*"), filepath.Join(modules, "rest-root", "rest-root.jar"), builds[d.engine].java)
}

func (d *distribution) mainClass() string {
	if d.engine.IsOpenSearch() {
		return "OpenSearchNode"
	}
	return "ElasticsearchNode"
}

// program lays out a home for one server.
func (d *distribution) program(_ context.Context, p *process, e Engine, port int, o SearchOptions) (*program, error) {
	transport, err := FreePort()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(p.folder, "home")
	for _, f := range []string{"", "data", "logs", "plugins", "repositories", "tmp"} {
		if err := os.Mkdir(filepath.Join(home, f), 0o755); err != nil {
			return nil, err
		}
	}
	if modules := filepath.Join(d.folder, "modules"); exists(modules) {
		err = os.Symlink(modules, filepath.Join(home, "modules"))
	} else {
		err = os.Mkdir(filepath.Join(home, "modules"), 0o755)
	}
	if err != nil {
		return nil, err
	}
	config := "elasticsearch.yml"
	if e.IsOpenSearch() {
		config = "opensearch.yml"
	}
	if err := writeConfig(home, config, p, port, transport, o); err != nil {
		return nil, err
	}
	if err := giveTo(serverAccount(), p.folder); err != nil {
		return nil, err
	}
	return &program{
		command: command{
			Path: d.java.tool("java"), Args: d.arguments(home, o.Heap), Env: environment(), Account: serverAccount(),
			End: syscall.SIGKILL,
		},
		stop: syscall.SIGTERM,
	}, nil
}

func (d *distribution) arguments(home, heap string) []string {
	args := []string{
		"-Xms" + heap, "-Xmx" + heap, "-XX:+UseG1GC",
		"-XX:-UsePerfData", // a file in the machine's temporary folder
		"-Djava.io.tmpdir=" + filepath.Join(home, "tmp"),
		"-Dlog4j2.disable.jmx=true",
	}
	if d.archive != "" {
		args = append(args, "-XX:SharedArchiveFile="+d.archive)
	}
	lib := filepath.Join(d.folder, "lib")
	classPath := filepath.Join(d.folder, "node.jar")
	if d.engine.IsOpenSearch() {
		args = append(args, "-Dopensearch.path.home="+home, "-Dopensearch.distribution.type=tar")
	} else {
		args = append(args, "-Des.path.home="+home, "-Des.distribution.type=tar")
	}
	if d.engine == OpenSearch3 {
		args = append(args, "--enable-native-access=ALL-UNNAMED")
	}
	if builds[d.engine].modules {
		args = append(args, "--module-path", lib, "--add-modules=jdk.net,org.elasticsearch.server,ALL-MODULE-PATH")
	} else {
		classPath += ":" + filepath.Join(lib, "*")
	}
	return append(args, "-cp", classPath, d.mainClass(), home)
}

const archiveName = "classes.jsa"

// archiveClasses runs the server once and has the JVM keep its loaded classes in
// a file: each later start is faster by a half. A JVM that makes no such file
// leaves the folder empty, and starts are slow.
func (d *distribution) archiveClasses(ctx context.Context, folder string) error {
	var file string
	s, err := launchSearch(ctx, d.engine, SearchOptions{Heap: "512m"}, func(ctx context.Context, p *process, e Engine, port int, o SearchOptions) (*program, error) {
		file = filepath.Join(p.folder, "home", "tmp", archiveName)
		prog, err := d.program(ctx, p, e, port, o)
		if err == nil {
			prog.Args = append([]string{"-XX:ArchiveClassesAtExit=" + file}, prog.Args...)
		}
		return prog, err
	})
	if err != nil {
		return err
	}
	err = s.exercise(ctx)
	err = errors.Join(err, s.Stop(ctx))
	if err == nil && exists(file) {
		err = copyFile(filepath.Join(folder, archiveName), file)
	}
	return errors.Join(err, s.Close())
}

// exercise loads the classes that tests need.
func (s *SearchServer) exercise(ctx context.Context) error {
	const index = "/exercise"
	var bulk strings.Builder
	for i := range 200 {
		fmt.Fprintf(&bulk, `{"index":{"_id":"%d","version":%d,"version_type":"external_gte"}}`+"\n", i, i+1)
		fmt.Fprintf(&bulk, `{"title":"a title %d","number":%d,"day":"2026-01-31"}`+"\n", i, i)
	}
	for _, r := range []struct{ method, path, body string }{
		{http.MethodPut, index, `{"mappings":{"properties":{"title":{"type":"text","fields":{"keyword":{"type":"keyword"}}},"day":{"type":"date"}}}}`},
		{http.MethodPost, index + "/_bulk", bulk.String()},
		{http.MethodPost, index + "/_refresh", ""},
		{http.MethodPost, index + "/_search", `{"query":{"match":{"title":"title"}},"sort":["number"]}`},
		{http.MethodGet, index + "/_doc/" + strconv.Itoa(1), ""},
		{http.MethodDelete, index, ""},
	} {
		var body []byte
		if r.body != "" {
			body = []byte(r.body)
		}
		if err := s.call(ctx, r.method, r.path, body, nil); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}
