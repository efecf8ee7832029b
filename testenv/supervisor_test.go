package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const victimVariable = "TIDEMARK_TESTENV_VICTIM"

// TestVictim is run by the tests below in a process of its own, and killed there.
func TestVictim(t *testing.T) {
	what := os.Getenv(victimVariable)
	if what == "" {
		t.Skip("only run by another test")
	}
	p := StartPostgres(t, PostgresOptions{})
	fmt.Println("server", p.PID(), p.process.cmd.Process.Pid, p.process.folder)
	if what == "all" {
		s := StartSearch(t, Engines(t)[0], SearchOptions{Heap: "512m"})
		fmt.Println("server", s.PID(), s.process.cmd.Process.Pid, s.process.folder)
	}
	fmt.Println("ready")
	<-t.Context().Done()
}

type victim struct {
	cmd         *exec.Cmd
	servers     []int
	supervisors []int
	folders     []string
}

func startVictim(t *testing.T, what string) *victim {
	t.Helper()
	SkipShort(t)
	self, err := os.Executable()
	must(t, err)
	v := &victim{cmd: exec.Command(self, "-test.run=^TestVictim$", "-test.v")}
	v.cmd.Env = append(os.Environ(), victimVariable+"="+what)
	out, err := v.cmd.StdoutPipe()
	must(t, err)
	must(t, v.cmd.Start())
	t.Cleanup(func() { _ = v.cmd.Process.Kill(); _ = v.cmd.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if strings.HasPrefix(lines.Text(), "--- SKIP") {
			t.Skip("its server cannot be started here")
		}
		switch {
		case len(words) == 4 && words[0] == "server":
			server, err1 := strconv.Atoi(words[1])
			supervisor, err2 := strconv.Atoi(words[2])
			must(t, errors.Join(err1, err2))
			v.servers, v.supervisors = append(v.servers, server), append(v.supervisors, supervisor)
			v.folders = append(v.folders, words[3])
		case len(words) == 1 && words[0] == "ready":
			return v
		}
	}
	t.Fatal("the process to be killed did not start its servers")
	return nil
}

// gone waits until the processes have ended.
func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		must(t, poll(within(t, 20*time.Second), func(context.Context) error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("process %d is there: %v", pid, err)
			}
			return nil
		}))
	}
}

func TestNothingOutlivesAKilledProcess(t *testing.T) {
	v := startVictim(t, "all")
	must(t, v.cmd.Process.Signal(syscall.SIGKILL))
	gone(t, v.servers)
	gone(t, v.supervisors)
	for _, f := range v.folders {
		if exists(f) {
			t.Errorf("%s is left", f)
		}
	}
}

func TestNoServerOutlivesAKilledSupervisor(t *testing.T) {
	if runtime.GOOS != "linux" || docker() != "" {
		t.Skip("the kernel's help is needed, and no engine in between")
	}
	v := startVictim(t, "postgres")
	for _, pid := range v.supervisors {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	gone(t, v.servers)
	for _, f := range v.folders { // nobody is left to do it
		removeAll(f)
	}
}
