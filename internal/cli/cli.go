// Package cli is the command line of Tidemark: its commands and flags, what they print,
// and their exit codes.
//
// An error is printed once, on the standard error, with its hint; results are on the
// standard output. Exit codes: 0 done, 1 failed, 2 the configuration or the command line
// has to be changed.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/internal/logging"
	"tidemark/internal/progress"
	"tidemark/internal/version"
)

// Run runs the command line args, without the name of the program, and returns the exit
// code. When ctx is done the command ends as it would at SIGTERM.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root, reached := newRoot(stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err != nil {
		// Before a command runs, all that can be wrong is its line.
		if !*reached {
			err = &usageError{err: err, help: command.CommandPath()}
		}
		report(stderr, err)
	}
	return exitCode(err)
}

// newRoot makes the command with all of its own. reached reports whether the line was right.
func newRoot(stderr io.Writer) (root *cobra.Command, reached *bool) {
	reached = new(bool)
	root = &cobra.Command{
		Use:   "tidemark",
		Short: "Keeps Elasticsearch and OpenSearch indices equal to what a Postgres database holds",
		Long: "Tidemark keeps Elasticsearch and OpenSearch indices equal to what a Postgres database holds.\n" +
			"It reads the write-ahead log by logical replication, and fills indices while writes go on.",
		Version:           version.String(),
		SilenceErrors:     true, // Run reports them
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { *reached = true },
		DisableAutoGenTag: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return &usageError{err: errors.New("no command is given"), help: c.CommandPath()}
		},
	}
	root.SetVersionTemplate(versionLine())
	root.AddCommand(newRun(stderr), newApply(stderr), newReindex(stderr), newStatus(stderr), newCheck(stderr), newInit(stderr), newVerify(stderr), newWait(stderr), newPreview(stderr), newTail(stderr), newDeadLetters(stderr), newTeardown(stderr), newConfig(), newSchema(), newMan(), newVersion())
	return root, reached
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine is what version and --version print.
func versionLine() string { return fmt.Sprintf("tidemark %s, %s\n", version.String(), version.Go()) }

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("there is no argument here, found %q", args[0])
	}
	return nil
}

// common are the flags of commands that read the mapping file and log.
type common struct {
	file   string
	level  level
	format choice
}

func (f *common) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVarP(&f.file, "config", "c", "tidemark.yaml", "mapping `file`")
	flags.Var(&f.level, "log-level", "`level` from which on there are log lines: debug, info, warn, error")
	f.format = choice{value: "auto", of: []string{"auto", "text", "json"}}
	flags.Var(&f.format, "log-format", "`format` of log lines: text, json, or auto: text on a terminal and JSON elsewhere")
	// These cannot fail: the flags are there.
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	_ = c.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions(f.format.of, cobra.ShellCompDirectiveNoFileComp))
}

// logger makes the logger, and the display of progress that goes with it: bars only where
// log lines are text on a terminal.
func (f *common) logger(w io.Writer) (*slog.Logger, *progress.Display) {
	terminal := false
	if file, ok := w.(*os.File); ok {
		terminal = term.IsTerminal(int(file.Fd()))
	}
	text := f.format.value == "text" || f.format.value == "auto" && terminal
	if terminal && text {
		display := progress.New(w, true, nil)
		lines := io.Writer(display)
		if isColored(w) {
			lines = painter{display, paintedLogs}
		}
		return logging.New(lines, true, slog.Level(f.level)), display
	}
	log := logging.New(w, text, slog.Level(f.level))
	return log, progress.New(w, false, log)
}

// A level is the value of a flag.
type level slog.Level

func (l *level) String() string { return strings.ToLower(slog.Level(*l).String()) }
func (l *level) Type() string   { return "level" }
func (l *level) Set(text string) error {
	for _, known := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(text, known.String()) {
			*l = level(known)
			return nil
		}
	}
	return errors.New("want debug, info, warn or error")
}

// A choice is the value of a flag that is one of a few.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "choice" }
func (c *choice) Set(text string) error {
	if !slices.Contains(c.of, text) {
		return fmt.Errorf("want %s", strings.Join(c.of, ", "))
	}
	c.value = text
	return nil
}
