package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/prepare"
	"tidemark/mapping"
)

// grouped are the flags of commands that are about one cluster of the mapping file.
type grouped struct {
	common
	group   string
	command *cobra.Command
}

func (g *grouped) add(c *cobra.Command) {
	g.common.add(c)
	g.addGroup(c)
}

func (g *grouped) addGroup(c *cobra.Command) {
	g.command = c
	c.Flags().StringVar(&g.group, "group", "", "the cluster of the group of this `name` in kafka.groups; default: that of search")
	_ = c.RegisterFlagCompletionFunc("group", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return groupNames(g.file), cobra.ShellCompDirectiveNoFileComp
	})
}

// groupNames are what can be named where a group is asked for.
func groupNames(file string) []string {
	config, err := mapping.Read(file)
	if err != nil {
		return nil
	}
	return config.GroupNames()
}

// read reads what the mapping file has for the group. Its errors are those of [prepare.Read], and a [usageError] if
// there is no such group.
func (g *grouped) read(ctx context.Context, log *slog.Logger, patience time.Duration) (*mapping.Config, error) {
	whole, err := mapping.Read(g.file)
	if err != nil {
		return nil, err
	}
	config, ok := whole.OfGroup(g.group)
	if !ok {
		names := strings.Join(whole.GroupNames(), ", ")
		if names == "" {
			return nil, &usageError{errors.New("--group " + g.group + ": kafka.groups of the mapping has no groups"), g.command.CommandPath()}
		}
		return nil, &usageError{errors.New("--group " + g.group + ": there is no such group in kafka.groups of the mapping; those that there are: " + names), g.command.CommandPath()}
	}
	return prepare.ReadTables(ctx, config, log, patience)
}

// readNamed reads what the mapping file has for the group, and returns the indices of these names.
func (g *grouped) readNamed(ctx context.Context, names []string, log *slog.Logger, patience time.Duration) (*mapping.Config, []*mapping.Index, error) {
	config, err := g.read(ctx, log, patience)
	if err != nil {
		return nil, nil, err
	}
	indices, err := named(config, names)
	return config, indices, err
}

// A groupNotFedError reports that no instance is running, which alone produces for a group.
type groupNotFedError struct{ group, slot string }

func (e *groupNotFedError) Error() string {
	return fmt.Sprintf("no instance follows slot %s, and this command cannot do it for group %s alone; hint: tidemark run", e.slot, e.group)
}
