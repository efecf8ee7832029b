package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// headName is what the build of this tree is called.
const headName = "tidemark"

// A build is one binary of the tool.
type build struct {
	name   string // of it in the report
	letter string // in the names of what it makes
	binary string

	partitions int // of the topic that it hands operations to; 0: it writes by itself
}

// buildTools makes the binary of this tree, and that of the commit base, unless it is "".
func buildTools(ctx context.Context, folder, base string) ([]*build, error) {
	head := &build{name: headName, letter: "a", binary: filepath.Join(folder, "tidemark")}
	if err := goBuild(ctx, "", head.binary); err != nil {
		return nil, err
	}
	if base == "" {
		return []*build{head}, nil
	}
	b := &build{name: "base " + base, letter: "b", binary: filepath.Join(folder, "tidemark-base")}
	if err := buildCommit(ctx, folder, base, b.binary); err != nil {
		return nil, fmt.Errorf("build the tool of %s: %w", base, err)
	}
	return []*build{head, b}, nil
}

// buildCommit builds the tool of a commit, in a work tree that is gone afterwards.
func buildCommit(ctx context.Context, folder, commit, binary string) (err error) {
	tree := filepath.Join(folder, "base-tree")
	// What a branch is called may be checked out elsewhere; a commit may be twice.
	if err := command(ctx, "", "git", "worktree", "add", "--quiet", "--detach", tree, commit); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, command(context.WithoutCancel(ctx), "", "git", "worktree", "remove", "--force", tree))
	}()
	return goBuild(ctx, tree, binary)
}

func goBuild(ctx context.Context, folder, binary string) error {
	return command(ctx, folder, "go", "build", "-o", binary, "tidemark")
}

func command(ctx context.Context, folder string, args ...string) error {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Dir = folder
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
