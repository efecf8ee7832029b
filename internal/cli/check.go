package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

func newCheck(stderr io.Writer) *cobra.Command {
	f := common{level: level(slog.LevelWarn)} // the result is what is printed
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Hold the mapping file against database and cluster, and say what run would do",
		Long: "Holds the mapping file against database and cluster. Everything that has to be fixed is printed in one go,\n" +
			"and the exit code is 2. If nothing has to be, it is printed what run would do. Nothing is changed anywhere.\n\n" +
			"With --json the standard output has all of it as one object, whatever the exit code is.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			log, _ := f.logger(stderr)
			print := printCheck
			if asJSON {
				print = printCheckJSON
			}
			err := checkFile(c.Context(), f.file, log, c.OutOrStdout(), print)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			return err
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// A checked is what check has found.
type checked struct {
	config   *mapping.Config
	prepared *prepare.Prepared // nil where something has to be fixed
	plans    []prepare.IndexPlan
	groups   []*prepare.Group // clusters beside the first
	err      error            // why run would not do it, nil if it would
}

// checkFile holds a mapping file against database and cluster, and prints what it found. Its error is what run would
// end with.
func checkFile(ctx context.Context, file string, log *slog.Logger, out io.Writer, print func(*checked) ([]byte, error)) error {
	found := checked{}
	if found.config, found.err = prepare.Read(ctx, file, log, prepare.StartTimeout); found.err == nil {
		if found.prepared, found.err = prepare.Prepare(ctx, found.config, log); found.err == nil {
			defer found.prepared.Close()
			if found.plans, found.err = found.prepared.Plan(ctx, found.config); found.err == nil {
				found.err = stops(found.config, found.prepared, found.plans)
			} else {
				found.prepared = nil
			}
		}
	}
	if found.err == nil {
		found.groups, found.err = prepare.Groups(ctx, found.config, log, groupPatience)
		defer prepare.CloseGroups(found.groups)
		if found.err != nil {
			found.prepared = nil
		}
	}
	text, err := print(&found)
	if err == nil {
		_, err = out.Write(text)
	}
	if err != nil {
		return errors.Join(found.err, fmt.Errorf("print the result: %w", err))
	}
	return found.err
}

// printCheck prints for people what run would do. What has to be fixed is printed as the error that it is.
func printCheck(c *checked) ([]byte, error) {
	if c.prepared == nil {
		return nil, nil
	}
	var b bytes.Buffer
	printServers(&b, c.config, c.prepared)
	for _, g := range c.groups {
		fmt.Fprintf(&b, "group %s: %s\n", g.Config.Group, clusterOf(g))
		printKafka(&b, g.Config, g.Kafka)
	}
	for _, plan := range c.plans {
		b.WriteByte('\n')
		if err := printIndex(&b, plan); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// stops returns why run would not do what it would otherwise.
func stops(c *mapping.Config, p *prepare.Prepared, plans []prepare.IndexPlan) error {
	var stops []error
	if p.Database.Lost != nil && c.OnSlotLost != mapping.OnSlotLostReindex {
		stops = append(stops, p.Database.Lost)
	}
	for _, plan := range plans {
		if plan.Refused != nil {
			stops = append(stops, fmt.Errorf("index %s: %w", plan.Index.Name, plan.Refused))
			continue
		}
		if misled(plan) {
			stops = append(stops, fmt.Errorf("the name %s stands for %s, and not for %s, which is kept equal to the table%s", plan.Index.Name,
				strings.Join(plan.Alias, ", "), plan.Live, withHint("remove the alias, then it is put back, or give the mapping another name")))
		}
	}
	return errors.Join(stops...)
}

// misled reports whether the name of an index that is complete stands for something else, so
// that searchers do not see the index.
func misled(p prepare.IndexPlan) bool {
	return !p.Unknown && p.Need.Backfill == "" && p.Building == "" && len(p.Alias) > 0 && !slices.Equal(p.Alias, []string{p.Live})
}

func printServers(b *bytes.Buffer, c *mapping.Config, p *prepare.Prepared) {
	db := p.Database
	fmt.Fprintf(b, "Postgres %s, database %s, role %s\n", postgresVersion(db.ServerVersion), db.Database, db.Role)
	switch {
	case db.Lost != nil && c.OnSlotLost == mapping.OnSlotLostReindex:
		fmt.Fprintf(b, "  run begins anew, and fills every index again: %v\n", db.Lost)
	case db.Lost != nil:
		fmt.Fprintf(b, "  run stops: %v\n", db.Lost)
	case db.Slot.Exists:
		on := ""
		if !c.Postgres.ReplicationURL.IsZero() {
			on = " on the standby"
		}
		fmt.Fprintf(b, "  slot %s%s is at %s, %s behind the end of the log\n", c.Postgres.Slot, on, db.Slot.Confirmed, size(db.Slot.Retained))
	}
	if db.Standbys != "" {
		fmt.Fprintf(b, "  %s\n", db.Standbys)
	}
	for _, text := range db.Failover {
		fmt.Fprintf(b, "  after the failure of the primary: %s\n", withHintBelow(text))
	}
	if db.Slot.Active {
		b.WriteString("  it is in use by another process: run waits until it is free\n")
	}
	for _, step := range db.Steps {
		fmt.Fprintf(b, "  run will %s\n", strings.ReplaceAll(step, "\n", "\n    ")) // it may have statements
	}
	if p.Control.Made {
		for _, step := range p.Control.Pending {
			fmt.Fprintf(b, "  run will %s\n", step)
		}
	} else {
		fmt.Fprintf(b, "  run will make its tables in control schema %s\n", c.StateSchema())
	}
	product := p.Client.Product()
	fmt.Fprintf(b, "%s, cluster %s\n", product, product.ClusterName)
	for _, l := range product.Limitations() {
		fmt.Fprintf(b, "  %s: %s%s\n", l.Product, strings.ReplaceAll(l.Lacks, "`", ""), withHint(l.Hint))
	}
	printKafka(b, c, p.Kafka)
	for _, p := range c.Left {
		fmt.Fprintf(b, "left out: %s%s\n", p.Text, withHint(p.Hint))
	}
}

// printKafka prints what operations go through, if it is Kafka.
func printKafka(b *bytes.Buffer, c *mapping.Config, k *prepare.Kafka) {
	if k == nil {
		return
	}
	fmt.Fprintf(b, "Kafka at %s, topic %s, group %s\n", strings.Join(c.Kafka.Brokers, ", "), c.Kafka.Topic, c.Kafka.Group)
	if partitions := k.State.Partitions; partitions > 0 {
		fmt.Fprintf(b, "  %d partitions: as many workers can share it\n", partitions)
	}
	for _, step := range kafkaSteps(c, k) {
		fmt.Fprintf(b, "  run will %s\n", step)
	}
	for _, r := range k.Remarks {
		fmt.Fprintf(b, "  %s: %s%s\n", r.Key, r.Text, withHint(r.Hint))
	}
}

// groupPatience is how long a cluster beside the first may not answer: run begins without it.
const groupPatience = 5 * time.Second

// clusterOf says what the cluster of a group is.
func clusterOf(g *prepare.Group) string {
	if g.Client == nil {
		return fmt.Sprintf("its cluster does not answer, run begins without it: %v", g.Away)
	}
	product := g.Client.Product()
	return fmt.Sprintf("%s, cluster %s", product, product.ClusterName)
}

// kafkaSteps says what run does to Kafka, after "run will".
func kafkaSteps(c *mapping.Config, k *prepare.Kafka) []string {
	if k.State != (topic.State{}) {
		return []string{}
	}
	reports := c.Kafka.Topic + mapping.ReportsSuffix
	return []string{fmt.Sprintf("make what is missing of topic %s, with %d partitions, and topic %s", c.Kafka.Topic, c.Kafka.Partitions, reports)}
}

// postgresVersion writes 170005 as 17.5.
func postgresVersion(number int) string { return fmt.Sprintf("%d.%d", number/10000, number%10000) }

func size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(bytes), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d %s", bytes, units[0])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

func printIndex(b *bytes.Buffer, p prepare.IndexPlan) error {
	ix := p.Index
	for i, source := range ix.Sources {
		t := p.Tables[source.Table]
		rows := "number of rows not known (ANALYZE tells)"
		if t.EstimatedRows >= 0 {
			rows = fmt.Sprintf("about %d rows", t.EstimatedRows)
		}
		if i == 0 {
			fmt.Fprintf(b, "index %s from table %s%s, %s\n", ix.Name, t.TableName(), withChildren(t), rows)
			fmt.Fprintf(b, "  run %s\n", doing(p))
			if !p.Unknown && len(p.Alias) > 0 && !misled(p) && !slices.Equal(p.Alias, []string{p.Live}) {
				fmt.Fprintf(b, "  the name %s stands for %s now, and is moved when the index is filled\n", ix.Name, strings.Join(p.Alias, ", "))
			}
			printSurroundings(b, p)
		} else {
			fmt.Fprintf(b, "  and from table %s%s, %s\n", t.TableName(), withChildren(t), rows)
		}
		fmt.Fprintf(b, "  _id from %s\n", source.IDText(t))
		if source.Routing != "" {
			fmt.Fprintf(b, "  routing from %s\n", source.Routing)
		}
		if source.Where != "" {
			fmt.Fprintf(b, "  rows where %s\n", source.Where)
		}
		if err := printFields(b, source, p.Tables); err != nil {
			return err
		}
	}
	printDurability(b, &p)
	for _, name := range ix.Tables() {
		if text := mapping.Unfollowed(p.Tables[name]); text != "" {
			fmt.Fprintf(b, "  %s\n", text)
		}
	}
	return nil
}

// printSurroundings prints what others have set around an index in the cluster.
func printSurroundings(b *bytes.Buffer, p prepare.IndexPlan) {
	for _, name := range slices.Sorted(maps.Keys(p.Kept)) {
		with := ""
		if special := p.Kept[name].String(); special != "" {
			with = " with " + special
		}
		fmt.Fprintf(b, "  the alias %s stands for %s%s, and does so for the next one after a rebuild\n", name, p.Live, with)
	}
	for _, t := range p.Templates {
		if gives := t.String(); gives != "" {
			fmt.Fprintf(b, "  the index template %s gives to its physical indices %s\n", t.Name, gives)
		}
	}
}

// printDurability warns of what the search server may lose of an index.
func printDurability(b *bytes.Buffer, p *prepare.IndexPlan) {
	switch {
	case p.Async != "" && p.Made:
		fmt.Fprintf(b, "  translog.durability is async: what the search server has answered may be gone after a crash, so run compares the index with its tables each time one of its shards was started again%s\n",
			withHint(fmt.Sprintf(`PUT /%s/_settings {"index.translog.durability": "request"}`, p.Async)))
	case p.Async != "":
		fmt.Fprintf(b, "  translog.durability will be async, by the mapping's settings or a template: what the search server has answered may be gone after a crash, so run compares the index with its tables each time one of its shards was started again%s\n",
			withHint(fmt.Sprintf("indices.%s.settings: {index.translog.durability: request}", p.Index.Name)))
	}
	if p.Blind != nil {
		fmt.Fprintf(b, "  the cluster does not say when shards are started again, so run compares the index with its tables more often, after each request without an answer: %v%s\n", p.Blind,
			withHint("grant the user of search.user the privilege monitor on "+p.Index.Name+"-*"))
	}
}

// withChildren says, after the name of a table, that the rows of tables that inherit from it count.
func withChildren(t *catalog.Table) string {
	switch {
	case !t.WithChildren:
		return ""
	case len(t.Children) == 1:
		return " and its child"
	}
	return fmt.Sprintf(" and its %d children", len(t.Children))
}

// doing says what run does with an index, after "run".
func doing(p prepare.IndexPlan) string {
	switch {
	case p.Refused != nil:
		return "stops: " + p.Refused.Error()
	case p.Unknown:
		return "migrates the control schema, where an early version has noted how far the index is; then it goes on with that, or says why it fills the index again"
	case misled(p):
		return "stops: its name stands for another index"
	case p.Need.Hold != "":
		return "leaves it as it is: " + p.Need.Hold
	case p.Need.Backfill == "" && p.Building != "":
		return fmt.Sprintf("goes on with the backfill of %s, of which %d rows are stored", p.Building, p.Done)
	case p.Need.Joins():
		return p.Need.JoinText() + ", in " + p.Live
	case p.Need.Grow:
		return fmt.Sprintf("adds the fields of new columns to %s; no rebuild is needed", p.Live)
	case p.Need.Refresh != "":
		return fmt.Sprintf("stores the documents of all rows again in %s: %s", p.Live, p.Need.Refresh)
	case p.Need.Compare != "":
		return fmt.Sprintf("keeps %s equal to the table, and compares all of it with its rows: %s", p.Live, p.Need.Compare)
	case p.Need.Backfill == "":
		return fmt.Sprintf("keeps %s equal to the table", p.Live)
	case p.Live == "":
		return "makes an index and fills it: " + p.Need.Backfill
	}
	incomplete := ""
	if p.Incomplete {
		incomplete = ", which misses changes"
	}
	return fmt.Sprintf("rebuilds it beside %s%s: %s%s", p.Live, incomplete, p.Need.Backfill, expected(p))
}

// expected says how long a rebuild takes, by the last one.
func expected(p prepare.IndexPlan) string {
	if p.Rows < 0 || p.RowsPerSecond < 1 {
		return ""
	}
	took := time.Duration(float64(p.Rows) / p.RowsPerSecond * float64(time.Second))
	return fmt.Sprintf("; about %s, at the %.0f rows/s of the last time", max(took.Round(time.Second), time.Second), p.RowsPerSecond)
}

// printFields prints each field with what it is made of and the type that it has in the
// index.
func printFields(b *bytes.Buffer, s *mapping.Source, tables catalog.Tables) error {
	lines, err := fieldLines(s, tables)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  field\tindexed as\tcolumn\ttype")
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", line.Field, line.IndexedAs, line.Column, line.Type)
	}
	return w.Flush()
}

// A fieldLine is a field with what it is made of and the type that it has in the index.
type fieldLine struct {
	Field     string `json:"field"`
	IndexedAs string `json:"indexed_as"`
	Column    string `json:"column"`
	Type      string `json:"type,omitempty"`
}

func fieldLines(s *mapping.Source, tables catalog.Tables) (lines []fieldLine, err error) {
	body, err := s.Index.Body(tables)
	if err != nil {
		return nil, err
	}
	var made struct{ Mappings indexField }
	if err := json.Unmarshal(body, &made); err != nil {
		return nil, fmt.Errorf("index %s: %w", s.Index.Name, err)
	}
	for _, line := range s.Describe(tables) {
		lines = append(lines, fieldLine{line.Path, made.Mappings.at(line.Path), line.Column, line.Type})
	}
	return lines, nil
}

// An indexField is a field of an index as the body of the request that makes it has it.
type indexField struct {
	Type       string                `json:"type"`
	Properties map[string]indexField `json:"properties"`
}

// at returns the type of a field by the path of its names.
func (f indexField) at(path string) string {
	for name := range strings.SplitSeq(path, ".") {
		next, ok := f.Properties[path] // a column may have a dot in its name
		if ok {
			return cmp.Or(next.Type, "object")
		}
		f = f.Properties[strings.TrimSuffix(name, "[]")]
		_, path, _ = strings.Cut(path, ".")
	}
	return cmp.Or(f.Type, "object") // what the servers take where no type is given
}

// withHintBelow puts the hint of a sentence on a line of its own.
func withHintBelow(text string) string {
	text, hint, _ := strings.Cut(text, "; hint: ")
	return text + withHint(hint)
}
