package cli

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

type teardownOptions struct {
	common
	indices bool
	topics  bool
	yes     bool
}

func newTeardown(stderr io.Writer) *cobra.Command {
	o := teardownOptions{common: common{level: level(slog.LevelWarn)}}
	c := &cobra.Command{
		Use:   "teardown",
		Short: "Drop what run has made: slot, publication, control schema",
		Long: "Drops what run has made in the database: the slot, the publication, the control schema with state and dead letters. What\n" +
			"other slots need, or somebody else has made, stays. With --indices the indices in the cluster go, too, with --topics\n" +
			"the topics of Kafka. It says first what goes, and asks. While an instance runs nothing is dropped.\n\n" +
			"A slot that nobody follows has Postgres keep its log without end: this is the way to leave. It can be run again when it\n" +
			"was interrupted. Tables are never touched.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			err := o.run(c, stderr)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			return err
		},
	}
	o.add(c)
	c.Flags().BoolVar(&o.indices, "indices", false, "delete the physical indices of the mapping file, too, with their aliases")
	c.Flags().BoolVar(&o.topics, "topics", false, "delete the topics of the section kafka, too, with the group of the workers")
	c.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	return c
}

// A teardown is what is dropped.
type teardown struct {
	config  *mapping.Config
	options []dbsync.SyncerOpt
	plan    *dbsync.TeardownPlan
	schema  *control.Schema
	tables  []string // of the control schema, where that is dropped
	exists  bool     // the control schema does

	clusters []*tornCluster // the first one first
}

// A tornCluster is what is dropped of one of the clusters that the slot feeds.
type tornCluster struct {
	config *mapping.Config // as it is for the cluster
	schema *control.Schema // of a group; nil: the first cluster's, which goes with the slot
	exists bool            // that schema does

	client   *search.Client // nil: indices stay
	owner    search.Owner
	physical []string
	others   []string // physical indices of the same names that are not ours

	topics *topic.Client // nil: topics stay
}

// close lets go of the servers.
func (c *tornCluster) close() {
	if c.client != nil {
		c.client.Close()
	}
	if c.topics != nil {
		c.topics.Close()
	}
}

func (o *teardownOptions) run(c *cobra.Command, stderr io.Writer) error {
	ctx := c.Context()
	log, _ := o.logger(stderr)
	config, err := prepare.Read(ctx, o.file, log, askPatience)
	if err != nil {
		return err
	}
	db, err := prepare.Open(ctx, config, log, askPatience)
	if err != nil {
		return err
	}
	defer db.Close()
	t := &teardown{config: config, options: prepare.SyncerOptions(config, nil, log), schema: openControl(config, db)}
	if err := t.look(ctx, db); err != nil {
		return err
	}
	if o.topics && config.Kafka == nil {
		return &usageError{errors.New("--topics: the file has no section kafka"), c.CommandPath()}
	}
	for _, name := range append([]string{""}, config.GroupNames()...) {
		of, _ := config.OfGroup(name)
		torn := &tornCluster{config: of}
		defer torn.close()
		if err := o.lookAtCluster(ctx, t, torn, db, log); err != nil {
			return err
		}
		t.clusters = append(t.clusters, torn)
	}
	steps := t.steps()
	if len(steps) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "nothing of it is there")
		return err
	}
	if _, err := fmt.Fprintf(c.OutOrStdout(), "this drops, for good:\n  %s\n", strings.Join(steps, "\n  ")); err != nil {
		return fmt.Errorf("print what is dropped: %w", err)
	}
	if !o.yes {
		if err := confirm(ctx, c.InOrStdin(), c.OutOrStdout(), c.CommandPath()); err != nil {
			return err
		}
	}
	if err := t.do(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), "done")
	return err
}

// look finds out what is there in the database.
func (t *teardown) look(ctx context.Context, db *sql.DB) (err error) {
	if t.plan, err = dbsync.PlanTeardown(ctx, t.options...); err != nil {
		return err
	}
	if t.plan.Slot.Active {
		return t.running()
	}
	tables, foreign, exists, err := t.schema.Tables(ctx)
	if err != nil {
		return err
	}
	t.exists = exists
	if len(t.plan.Others) > 0 {
		found, err := control.Look(ctx, db, t.schema.Name())
		if err == nil {
			err = found.Current() // what is noted of the slot is deleted by this version's tables
		}
		return err
	}
	if len(foreign) > 0 {
		return foreignTables(t.schema, foreign)
	}
	t.tables = tables
	return nil
}

func foreignTables(schema *control.Schema, tables []string) error {
	return fmt.Errorf("control schema %s has in it what Tidemark has not made: %s%s", schema.Name(), strings.Join(tables, ", "),
		withHint("move it to another schema: ALTER TABLE … SET SCHEMA …;\nnothing was dropped"))
}

func (t *teardown) running() error {
	return fmt.Errorf("an instance follows slot %s: nothing was dropped%s", t.config.Postgres.Slot, withHint("end it first"))
}

// lookAtCluster finds out what is there of one cluster, as far as it is to go.
func (o *teardownOptions) lookAtCluster(ctx context.Context, t *teardown, c *tornCluster, db *sql.DB, log *slog.Logger) (err error) {
	if c.config.Group != "" {
		c.schema = openControl(c.config, db)
		var foreign []string
		if _, foreign, c.exists, err = c.schema.Tables(ctx); err != nil {
			return err
		}
		if len(foreign) > 0 {
			return foreignTables(c.schema, foreign)
		}
	}
	if o.indices {
		options := prepare.SearchOptions(c.config, log)
		options.StartTimeout = askPatience
		if c.client, err = search.Connect(ctx, options); err != nil {
			return err
		}
		if err := c.lookAtIndices(ctx, db, t.plan.System); err != nil {
			return err
		}
	}
	if o.topics {
		c.topics, err = prepare.ConnectKafka(ctx, c.config, retry.NewAlarm(log), log, askPatience)
	}
	return err
}

// lookAtIndices finds the physical indices that are ours.
func (c *tornCluster) lookAtIndices(ctx context.Context, db *sql.DB, system string) (err error) {
	if c.owner, err = control.ReadOwner(ctx, db, system, c.config.StateSchema(), c.config.Postgres.Slot); err != nil {
		return err
	}
	for _, ix := range c.config.Indices {
		standing, err := c.client.Standing(ctx, ix.Name)
		if err != nil {
			return err
		}
		for _, i := range standing.Indices {
			if i.IsOf(c.owner) {
				c.physical = append(c.physical, i.Name)
			} else {
				c.others = append(c.others, i.Name)
			}
		}
	}
	return nil
}

// steps says what of it is dropped, and what of the same names stays.
func (c *tornCluster) steps(plan *dbsync.TeardownPlan) (steps []string) {
	where := ""
	if c.config.Group != "" {
		where = " of group " + c.config.Group
	}
	switch {
	case c.exists && len(plan.Others) > 0:
		steps = append(steps, fmt.Sprintf("what control schema %s%s has noted of this slot; it stays for %s", c.schema.Name(), where, strings.Join(plan.Others, ", ")))
	case c.exists:
		steps = append(steps, "control schema "+c.schema.Name()+where)
	}
	for _, name := range c.physical {
		steps = append(steps, "index "+name+where+" with its documents and aliases")
	}
	if c.topics != nil {
		name := c.config.Kafka.Topic
		steps = append(steps, fmt.Sprintf("topics %s and %s with what others have not read of them, and group %s", name, topic.ReportsOf(name), c.config.Kafka.Group))
	}
	if len(steps) > 0 && len(c.others) > 0 {
		steps = append(steps, "not "+strings.Join(c.others, ", ")+where+": somebody else's")
	}
	return steps
}

// do drops it.
func (c *tornCluster) do(ctx context.Context, plan *dbsync.TeardownPlan) (err error) {
	switch {
	case c.exists && len(plan.Others) > 0: // which may have a group of this name
		err = c.schema.Forget(ctx, plan.Generation)
	case c.exists:
		err = c.schema.Drop(ctx)
	}
	if err != nil {
		return err
	}
	for _, name := range c.physical {
		if err := c.client.DropIndex(ctx, name, c.owner); err != nil {
			return err
		}
	}
	if c.topics != nil {
		return c.topics.Delete(ctx)
	}
	return nil
}

// steps says what is dropped, and what of the same names stays.
func (t *teardown) steps() (steps []string) {
	if t.plan.Slot.Exists {
		steps = append(steps, fmt.Sprintf("slot %s, at %s: without it every index has to be filled again", t.config.Postgres.Slot, t.plan.Slot.Confirmed))
	}
	steps = append(steps, t.plan.Unpublish...)
	switch {
	case !t.exists:
	case len(t.plan.Others) > 0:
		if t.plan.Generation != "" {
			steps = append(steps, fmt.Sprintf("what control schema %s has noted of this slot; it stays for %s", t.schema.Name(), strings.Join(t.plan.Others, ", ")))
		}
	default:
		steps = append(steps, fmt.Sprintf("control schema %s: %s", t.schema.Name(), strings.Join(t.tables, ", ")))
	}
	for _, c := range t.clusters {
		steps = append(steps, c.steps(t.plan)...)
	}
	return steps
}

// do drops it. The slot is the first to go: it does not while a process follows it. What a crash leaves the next
// teardown drops; whose an index is says the index itself.
func (t *teardown) do(ctx context.Context) error {
	err := dbsync.Teardown(ctx, t.options...)
	if errors.Is(err, dbsync.ErrSlotInUse) {
		return t.running()
	}
	if err == nil && t.exists && len(t.plan.Others) == 0 {
		err = t.schema.Drop(ctx)
	} else if err == nil && t.exists {
		err = t.schema.Forget(ctx, t.plan.Generation)
	}
	for _, c := range t.clusters {
		if err == nil {
			err = c.do(ctx, t.plan)
		}
	}
	return err
}

// errNotConfirmed ends a command that was not told to go on.
var errNotConfirmed = errors.New("nothing was dropped")

// confirm asks whether to go on. Where nobody can be asked, that has to be said by a flag.
func confirm(ctx context.Context, in io.Reader, out io.Writer, command string) error {
	if file, ok := in.(*os.File); ok && !term.IsTerminal(int(file.Fd())) {
		return &usageError{errors.New("nobody can be asked, as the standard input is no terminal: --yes goes on without"), command}
	}
	if _, err := fmt.Fprint(out, "Type yes to go on: "); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process: a terminal cannot be read with an end
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case line := <-answer:
		if line != "yes" {
			return errNotConfirmed
		}
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}
