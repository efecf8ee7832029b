package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dockerLimit bounds the question whether an engine answers.
const dockerLimit = 5 * time.Second

// docker is the client's path where an engine answers, else "".
var docker = sync.OnceValue(func() string {
	if os.Getenv("TIDEMARK_TEST_DOCKER") == "0" {
		return ""
	}
	path, err := exec.LookPath("docker")
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), dockerLimit)
	defer cancel()
	// The client alone exits with 0 in some versions: only an engine has a version.
	out, err := exec.CommandContext(ctx, path, "info", "--format", "{{.ServerVersion}}").Output()
	if err != nil || strings.TrimSpace(string(out)) == "" {
		return ""
	}
	return path
})

// errNoImage says that the engine neither has the image nor gets it.
var errNoImage = errors.New("no such image")

// A container is what is created from an image.
type container struct {
	image string
	port  int               // inside
	env   map[string]string // inside
	files map[string]string // path inside -> path here
}

// createContainer creates c on a port of this machine and gives the program
// that runs it in the foreground. Its data last until the process is closed.
func createContainer(ctx context.Context, p *process, c container, port int) (*program, error) {
	path, name := docker(), strings.ReplaceAll(baseName(p.folder), ".", "-")
	call := func(args ...string) command {
		return command{Path: path, Args: args, Env: os.Environ(), Log: p.log, End: syscall.SIGKILL}
	}
	if exec.CommandContext(ctx, path, "image", "inspect", c.image).Run() != nil {
		if err := p.run(ctx, call("pull", "--quiet", c.image)); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoImage, err)
		}
	}
	args := []string{"create", "--name", name, "--label", "tidemark.testenv=1", "--publish", fmt.Sprintf("%s:%d", address(port), c.port)}
	for k, v := range c.env {
		args = append(args, "--env", k+"="+v)
	}
	// Removed also if what follows fails or we are killed.
	if err := p.finally(call("rm", "--force", "--volumes", name)); err != nil {
		return nil, err
	}
	if err := p.run(ctx, call(append(args, c.image)...)); err != nil {
		return nil, err
	}
	for inside, here := range c.files {
		if err := p.run(ctx, call("cp", here, name+":"+inside)); err != nil {
			return nil, err
		}
	}
	// Attached, the client passes signals on to the server and ends with it.
	start := call("start", "--attach", name)
	return &program{command: start, kill: []string{path, "kill", name}}, nil
}
