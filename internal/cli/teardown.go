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
			"was interrupted. Tables are never touched. What there is for groups of kafka.groups goes as well: a group that is taken out\n" +
			"of the file before is not known any more.",
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
	config   *mapping.Config
	options  []dbsync.SyncerOpt
	plan     *dbsync.TeardownPlan
	clusters []*keptCluster // that of search, and those of groups
}

// A keptCluster is what is dropped of what there is for one cluster.
type keptCluster struct {
	config *mapping.Config
	schema *control.Schema
	tables []string // of the schema, where that is dropped
	exists bool     // the schema does

	client   *search.Client // nil: indices stay
	owner    search.Owner
	physical []string
	others   []string // physical indices of the same names that are not ours

	topics *topic.Client // nil: topics stay
}

func (o *teardownOptions) run(c *cobra.Command, stderr io.Writer) error {
	ctx := c.Context()
	log, _ := o.logger(stderr)
	config, err := prepare.Read(ctx, o.file, log, askPatience)
	if err != nil {
		return err
	}
	if o.topics && config.Kafka == nil {
		return &usageError{errors.New("--topics: the file has no section kafka"), c.CommandPath()}
	}
	db, err := prepare.Open(ctx, config, log, askPatience)
	if err != nil {
		return err
	}
	defer db.Close()
	t := &teardown{config: config, options: prepare.SyncerOptions(config, nil, log)}
	defer t.close()
	for _, name := range append([]string{""}, config.GroupNames()...) {
		of, _ := config.OfGroup(name) // it is one of its names
		t.clusters = append(t.clusters, &keptCluster{config: of, schema: openControl(of, db)})
	}
	if err := t.look(ctx, db); err != nil {
		return err
	}
	for _, k := range t.clusters {
		if err := o.connect(ctx, t, k, db, log); err != nil {
			return err
		}
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

// connect connects to what something is dropped of beside the database, and finds out what is there.
func (o *teardownOptions) connect(ctx context.Context, t *teardown, k *keptCluster, db *sql.DB, log *slog.Logger) (err error) {
	if o.indices {
		options := prepare.SearchOptions(k.config, log)
		options.StartTimeout = askPatience
		if k.client, err = search.Connect(ctx, options); err != nil {
			return err
		}
		if k.owner, err = control.ReadOwner(ctx, db, t.plan.System, k.config.StateSchema(), k.config.Postgres.Slot); err != nil {
			return err
		}
		if err := k.lookAtIndices(ctx); err != nil {
			return err
		}
	}
	if o.topics {
		k.topics, err = prepare.ConnectKafka(ctx, k.config, retry.NewAlarm(log), log, askPatience)
	}
	return err
}

func (t *teardown) close() {
	for _, k := range t.clusters {
		if k.client != nil {
			k.client.Close()
		}
		if k.topics != nil {
			k.topics.Close()
		}
	}
}

// look finds out what is there in the database.
func (t *teardown) look(ctx context.Context, db *sql.DB) (err error) {
	if t.plan, err = dbsync.PlanTeardown(ctx, t.options...); err != nil {
		return err
	}
	if t.plan.Slot.Active {
		return t.running()
	}
	for _, k := range t.clusters {
		if err := k.look(ctx, db, len(t.plan.Others) > 0); err != nil {
			return err
		}
	}
	return nil
}

// look finds out what is there in the schema. With shared other slots have notes in it, too.
func (k *keptCluster) look(ctx context.Context, db *sql.DB, shared bool) error {
	tables, foreign, exists, err := k.schema.Tables(ctx)
	if err != nil {
		return err
	}
	k.exists = exists
	if shared {
		found, err := control.Look(ctx, db, k.schema.Name())
		if err == nil && exists {
			err = found.Current() // what is noted of the slot is deleted by this version's tables
		}
		return err
	}
	if len(foreign) > 0 {
		return fmt.Errorf("control schema %s has in it what Tidemark has not made: %s%s", k.schema.Name(), strings.Join(foreign, ", "),
			withHint("move it to another schema: ALTER TABLE … SET SCHEMA …;\nnothing was dropped"))
	}
	k.tables = tables
	return nil
}

func (t *teardown) running() error {
	return fmt.Errorf("an instance follows slot %s: nothing was dropped%s", t.config.Postgres.Slot, withHint("end it first"))
}

// lookAtIndices finds the physical indices that are ours.
func (k *keptCluster) lookAtIndices(ctx context.Context) error {
	for _, ix := range k.config.Indices {
		standing, err := k.client.Standing(ctx, ix.Name)
		if err != nil {
			return err
		}
		for _, i := range standing.Indices {
			if i.IsOf(k.owner) {
				k.physical = append(k.physical, i.Name)
			} else {
				k.others = append(k.others, i.Name)
			}
		}
	}
	return nil
}

// steps says what is dropped, and what of the same names stays.
func (t *teardown) steps() (steps []string) {
	if t.plan.Slot.Exists {
		steps = append(steps, fmt.Sprintf("slot %s, at %s: without it every index has to be filled again", t.config.Postgres.Slot, t.plan.Slot.Confirmed))
	}
	steps = append(steps, t.plan.Unpublish...)
	var stay []string
	for _, k := range t.clusters {
		of := ""
		if k.config.Group != "" {
			of = " of group " + k.config.Group
		}
		switch {
		case !k.exists:
		case len(t.plan.Others) > 0:
			if t.plan.Generation != "" {
				steps = append(steps, fmt.Sprintf("what control schema %s has noted of this slot; it stays for %s", k.schema.Name(), strings.Join(t.plan.Others, ", ")))
			}
		default:
			steps = append(steps, fmt.Sprintf("control schema %s: %s", k.schema.Name(), strings.Join(k.tables, ", ")))
		}
		for _, name := range k.physical {
			steps = append(steps, "index "+name+of+" with its documents and aliases")
		}
		if k.topics != nil {
			steps = append(steps, fmt.Sprintf("topics %s and %s with what others have not read of them, and group %s", k.config.Kafka.Topic, topic.ReportsOf(k.config.Kafka.Topic), k.config.Kafka.Group))
		}
		for _, name := range k.others {
			stay = append(stay, name+of)
		}
	}
	if len(steps) > 0 && len(stay) > 0 {
		steps = append(steps, "not "+strings.Join(stay, ", ")+": somebody else's")
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
	for _, k := range t.clusters {
		if err == nil {
			err = k.drop(ctx, t.plan)
		}
	}
	return err
}

func (k *keptCluster) drop(ctx context.Context, plan *dbsync.TeardownPlan) (err error) {
	if k.exists && len(plan.Others) == 0 {
		err = k.schema.Drop(ctx)
	} else if k.exists {
		err = k.schema.Forget(ctx, plan.Generation)
	}
	for _, name := range k.physical {
		if err == nil {
			err = k.client.DropIndex(ctx, name, k.owner)
		}
	}
	if err == nil && k.topics != nil {
		err = k.topics.Delete(ctx)
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
