package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is the test binary's end of a supervisor: a place where one command
// runs at a time, in a folder of its own that vanishes with it.
type process struct {
	folder string // readable by the account that the server runs under
	log    string // what the commands print

	cmd    *exec.Cmd
	pipe   io.WriteCloser
	orders *json.Encoder
	gone   chan struct{} // closed when the supervisor has ended

	mu      sync.Mutex  // one order at a time
	answers chan report // to a start or a signal

	state sync.Mutex
	down  chan struct{} // closed when the command has ended; nil before the first
	how   string
	pid   int
}

// newProcess makes the folder and starts the supervisor.
func newProcess(name string) (*process, error) {
	folder, err := os.MkdirTemp("", "tidemark-"+name+"-")
	if err != nil {
		return nil, err
	}
	p, err := superviseFolder(folder)
	if err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	return p, nil
}

func superviseFolder(folder string) (*process, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	if err := reachable(folder); err != nil {
		return nil, err
	}
	if err := giveTo(serverAccount(), folder); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{folder: folder, log: filepath.Join(folder, "log"), gone: make(chan struct{}), answers: make(chan report, 1)}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), supervisorVariable+"=1")
	// In a session of its own: the terminal's Ctrl-C goes to the test binary alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.pipe, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	p.orders = json.NewEncoder(p.pipe)
	reports, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	go p.watch(reports)
	if err := p.orders.Encode(order{Folders: []string{folder}}); err != nil {
		return nil, errors.Join(fmt.Errorf("order supervisor: %w", err), p.close())
	}
	return p, nil
}

// watch reads reports until the supervisor ends. [process.close] waits for it.
func (p *process) watch(reports io.Reader) {
	defer close(p.gone)
	for lines := json.NewDecoder(reports); ; {
		var r report
		if lines.Decode(&r) != nil {
			break
		}
		switch {
		case r.Ended:
			p.state.Lock()
			p.how = r.How
			close(p.down)
			p.state.Unlock()
		case r.Started:
			p.state.Lock()
			p.down, p.how, p.pid = make(chan struct{}), "", r.PID
			p.state.Unlock()
			p.answers <- r
		default:
			p.answers <- r
		}
	}
	_ = p.cmd.Wait()
}

// start runs c, which runs on after start has returned.
func (p *process) start(c command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return errors.New("it already runs")
	}
	if c.Log == "" {
		c.Log = p.log
	}
	if c.Folder == "" {
		c.Folder = p.folder
	}
	if err := p.orders.Encode(order{Start: &c}); err != nil {
		return fmt.Errorf("order supervisor: %w", err)
	}
	select {
	case r := <-p.answers:
		if r.Failed != "" {
			return errors.New(r.Failed)
		}
		return nil
	case <-p.gone:
		return errors.New("the supervisor is gone")
	}
}

// run runs c to its end.
func (p *process) run(ctx context.Context, c command) error {
	if err := p.start(c); err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	if how := p.outcome(); how != "" {
		return fmt.Errorf("%s: %s: %s", filepath.Base(c.Path), how, p.tail())
	}
	return nil
}

// outcome says how the command ended; "" is a success.
func (p *process) outcome() string {
	p.state.Lock()
	defer p.state.Unlock()
	return p.how
}

// finally has the supervisor run the commands at the end.
func (p *process) finally(cs ...command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range cs {
		cs[i].Log = p.log
	}
	return p.orders.Encode(order{Finally: cs})
}

// child is the process of the command that was started last, 0 before the first.
func (p *process) child() int {
	p.state.Lock()
	defer p.state.Unlock()
	return p.pid
}

// ended is closed when the command is not running.
func (p *process) ended() <-chan struct{} {
	p.state.Lock()
	defer p.state.Unlock()
	if p.down == nil {
		p.down = make(chan struct{})
		close(p.down)
	}
	return p.down
}

func (p *process) running() bool {
	select {
	case <-p.ended():
		return false
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended():
		return nil
	case <-p.gone:
		return errors.New("the supervisor is gone")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop sends the signal and waits for the end, for grace at most.
func (p *process) stop(ctx context.Context, sig syscall.Signal, grace time.Duration) error {
	if !p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, grace, fmt.Errorf("still running %s after %s", grace, sig))
	defer cancel()
	if err := p.signal(sig); err != nil {
		return err
	}
	return p.wait(ctx)
}

// signal sends the command a signal, if it runs. It has been sent when signal returns.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.orders.Encode(order{Signal: sig}); err != nil {
		return fmt.Errorf("order supervisor: %w", err)
	}
	select {
	case <-p.answers:
		return nil
	case <-p.gone:
		return errors.New("the supervisor is gone")
	}
}

// close ends the command and the supervisor, and removes the folder.
func (p *process) close() error {
	err := p.pipe.Close()
	<-p.gone
	removeAll(p.folder) // in case the supervisor was killed
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// tail returns the end of the log, for an error.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	text = bytes.TrimSpace(text)
	if len(text) > most {
		text = append([]byte("…"), text[len(text)-most:]...)
	}
	return string(text)
}

// portTaken reports whether the log shows that somebody else has the port.
func (p *process) portTaken() bool {
	text, _ := os.ReadFile(p.log)
	return bytes.Contains(text, []byte("ddress already in use")) || bytes.Contains(text, []byte("port is already allocated"))
}

// environment is ours without what would reach into a server.
func environment(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case name == supervisorVariable, name == "CLASSPATH", strings.HasPrefix(name, "PG"),
			strings.HasPrefix(name, "JAVA_"), strings.HasPrefix(name, "JDK_"), strings.HasPrefix(name, "_JAVA"):
		default:
			env = append(env, v)
		}
	}
	return append(env, more...)
}
