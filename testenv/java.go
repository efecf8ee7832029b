package testenv

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// engines holds, per server, the Maven coordinates it comes from and the
// sources that start it.
//
//go:embed engines
var engines embed.FS

// A jdk is an installed Java development kit.
type jdk struct {
	home    string
	version int // 17, 21, …
	build   string
}

func (j jdk) tool(name string) string { return filepath.Join(j.home, "bin", name) }

// jdks lists what is installed: JAVA_HOME, then java of the PATH, then the
// usual places, newest first. The servers' account must reach them.
var jdks = sync.OnceValue(func() []jdk {
	var homes []string
	if home := os.Getenv("JAVA_HOME"); home != "" {
		homes = append(homes, home)
	}
	if java, err := exec.LookPath("java"); err == nil {
		if java, err = filepath.EvalSymlinks(java); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(java)))
		}
	}
	user, _ := os.UserHomeDir()
	var usual []jdk
	for _, pattern := range []string{
		"/usr/lib/jvm/*",
		"/usr/java/*",
		"/opt/java/*",
		"/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
		"/Library/Java/JavaVirtualMachines/*/Contents/Home",
		filepath.Join(user, ".sdkman/candidates/java/*"),
		filepath.Join(user, ".jdks/*"),
	} {
		found, _ := filepath.Glob(pattern)
		for _, home := range found {
			if j, ok := readJDK(home); ok {
				usual = append(usual, j)
			}
		}
	}
	slices.SortStableFunc(usual, func(a, b jdk) int { return b.version - a.version })
	var all []jdk
	for _, home := range homes {
		if j, ok := readJDK(home); ok {
			all = append(all, j)
		}
	}
	return append(all, usual...)
})

var javaVersion = regexp.MustCompile(`(?m)^JAVA_VERSION="(?:1\.)?(\d+)`)

func readJDK(home string) (jdk, bool) {
	release, err := os.ReadFile(filepath.Join(home, "release"))
	if err != nil {
		return jdk{}, false
	}
	m := javaVersion.FindSubmatch(release)
	if m == nil || !exists(filepath.Join(home, "bin", "javac")) || reachable(filepath.Join(home, "bin", "java")) != nil {
		return jdk{}, false
	}
	version, err := strconv.Atoi(string(m[1]))
	return jdk{home: home, version: version, build: digest(home, string(release))}, err == nil
}

// findJDK returns the first one that is new enough.
func findJDK(atLeast int) (jdk, error) {
	for _, j := range jdks() {
		if j.version >= atLeast {
			return j, nil
		}
	}
	return jdk{}, &MissingError{
		What: fmt.Sprintf("a Java development kit, version %d or newer", atLeast),
		Hint: "install one under /usr/lib/jvm or set JAVA_HOME",
	}
}

// fetchJars has Maven copy what the pom.xml of a server asks for into folder.
func fetchJars(ctx context.Context, server, folder string, properties ...string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return &MissingError{What: "Maven (mvn)", Hint: "install it and put it on the PATH"}
	}
	pom, err := engines.ReadFile(path.Join("engines", server, "pom.xml"))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "tidemark-mvn-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return err
	}
	args := []string{"-B", "-q", "-f", file, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + folder}
	return runTool(ctx, mvn, append(args, properties...)...)
}

// compile turns a source file of a server into a jar.
func (j jdk) compile(ctx context.Context, server, source, classPath, jar string, release int) error {
	text, err := engines.ReadFile(path.Join("engines", server, source))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "tidemark-javac-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	file, classes := filepath.Join(work, source), filepath.Join(work, "classes")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	if err := runTool(ctx, j.tool("javac"), "-nowarn", "--release", strconv.Itoa(release), "-cp", classPath, "-d", classes, file); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(jar), 0o755); err != nil {
		return err
	}
	return runTool(ctx, j.tool("jar"), "--create", "--file", jar, "-C", classes, ".")
}

func runTool(ctx context.Context, path string, args ...string) error {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(string(out))
	if len(text) > 4000 {
		text = "…" + text[len(text)-4000:]
	}
	return fmt.Errorf("%s: %w: %s", filepath.Base(path), err, text)
}

// recipe identifies what a server is made of and by which code.
func recipe(server string, more ...string) string {
	const version = "1" // of the code that makes the folder: raise it when that changes
	all := append([]string{version, runtime.GOOS, runtime.GOARCH}, more...)
	err := fs.WalkDir(engines, path.Join("engines", server), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := engines.ReadFile(name)
		all = append(all, name, string(text))
		return err
	})
	if err != nil {
		panic(errors.Join(errors.New("testenv: embedded files"), err)) // broken build
	}
	return digest(all...)
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
