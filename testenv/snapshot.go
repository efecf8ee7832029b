package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// errNoFolder is the answer where the data are out of reach, as in a container.
var errNoFolder = fmt.Errorf("the data of the server are not in a folder of this machine: %w", errors.ErrUnsupported)

// dataFolder is where a server that runs as a process here has its data.
func (p *Postgres) dataFolder() (string, error) {
	switch {
	case p.process == nil || p.shared:
		return "", errNotOurs
	case p.process.running():
		return "", errors.New("copy the data of Postgres: the server has to be stopped")
	}
	folder := filepath.Join(p.process.folder, "data")
	if !exists(folder) {
		return "", errNoFolder
	}
	return folder, nil
}

// Snapshot copies the data of a server that does not run, as a snapshot of its volume would,
// to a place that goes when the server is closed. There is one; the next replaces it.
func (p *Postgres) Snapshot(ctx context.Context) error {
	data, err := p.dataFolder()
	if err != nil {
		return err
	}
	return copyFolder(ctx, data, p.snapshotFolder())
}

// SetBack puts the data of the last Snapshot in the place of those of a server that does not
// run: same system identifier, same timeline, and what came after is gone. The snapshot stays.
func (p *Postgres) SetBack(ctx context.Context) error {
	data, err := p.dataFolder()
	if err != nil {
		return err
	}
	if !exists(p.snapshotFolder()) {
		return errors.New("there is no snapshot")
	}
	return copyFolder(ctx, p.snapshotFolder(), data)
}

func (p *Postgres) snapshotFolder() string { return filepath.Join(p.process.folder, "snapshot") }

// copyFolder makes to a copy of from, with owners, modes and times.
func copyFolder(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
