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

const dockerLabel = "tidemark.testenv=1"

// errNoImage says that the engine neither has the image nor gets it.
var errNoImage = errors.New("no such image")

// A container is what is created from an image.
type container struct {
	image   string
	port    int               // inside
	env     map[string]string // inside
	files   map[string]string // path inside -> path here
	network string            // of [createNetwork], where it is found by its name; "": Docker's own
}

// containerName is what the container of a process is called.
func containerName(p *process) string { return strings.ReplaceAll(baseName(p.folder), ".", "-") }

// dockerCall is a call of the client in the folder of a process.
func dockerCall(p *process, args ...string) command {
	return command{Path: docker(), Args: args, Env: os.Environ(), Log: p.log, End: syscall.SIGKILL}
}

// pullImage makes sure that the engine has an image; errNoImage: it does not get it.
func pullImage(ctx context.Context, p *process, image string) error {
	if exec.CommandContext(ctx, docker(), "image", "inspect", image).Run() == nil {
		return nil
	}
	if err := p.run(ctx, dockerCall(p, "pull", "--quiet", image)); err != nil {
		return fmt.Errorf("%w: %w", errNoImage, err)
	}
	return nil
}

// createNetwork makes a network. It goes with the last container in it.
func createNetwork(ctx context.Context, p *process, name string) error {
	return p.run(ctx, dockerCall(p, "network", "create", "--label", dockerLabel, name))
}

// createContainer creates c on a port of this machine and gives the program
// that runs it in the foreground. Its data last until the process is closed.
func createContainer(ctx context.Context, p *process, c container, port int) (*program, error) {
	if err := pullImage(ctx, p, c.image); err != nil {
		return nil, err
	}
	name := containerName(p)
	call := func(args ...string) command { return dockerCall(p, args...) }
	args := []string{"create", "--name", name, "--label", dockerLabel, "--publish", fmt.Sprintf("%s:%d", address(port), c.port)}
	end := []command{call("rm", "--force", "--volumes", name)}
	if c.network != "" {
		args = append(args, "--network", c.network)
		end = append(end, call("network", "rm", c.network)) // which fails for all but the last in it
	}
	for k, v := range c.env {
		args = append(args, "--env", k+"="+v)
	}
	// Removed also if what follows fails or we are killed.
	if err := p.finally(end...); err != nil {
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
	return &program{command: call("start", "--attach", name), container: name}, nil
}
