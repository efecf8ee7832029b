package cli

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/admin"
	"tidemark/internal/logging"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

const (
	// clusterPatience is how long the cluster may not answer: most of what status says is in
	// the database.
	clusterPatience = 3 * time.Second
	// shownRequests is how many requests status shows.
	shownRequests = 10
)

// A statusReport is what status prints as JSON. docs/reindex.md describes it. What the admin
// server says as well has the same key there.
type statusReport struct {
	Group    string          `json:"group,omitempty"` // of kafka.groups
	Slot     slotStatus      `json:"slot"`
	Topics   []topicStatus   `json:"topics,omitempty"` // one for each cluster; absent where operations go to the cluster
	Indices  []indexStatus   `json:"indices"`
	Requests []requestStatus `json:"requests"` // the newest first
	Problems []string        `json:"problems"` // what waits for somebody; exit code 1 if there are any
	Notes    []string        `json:"notes"`    // what could not be found out
}

type slotStatus struct {
	Name       string   `json:"name"`
	Exists     bool     `json:"exists"`
	Active     bool     `json:"active"` // an instance follows it
	WALStatus  string   `json:"wal_status,omitempty"`
	LagBytes   *int64   `json:"lag_bytes,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
}

// A topicStatus is how far workers are with a topic. Both numbers are absent where Kafka does not say,
// and while there is no topic.
type topicStatus struct {
	Name    string `json:"name"`
	Group   string `json:"group"`
	Cluster string `json:"cluster,omitempty"` // of kafka.groups; absent: that of search
	Lag     *int64 `json:"lag,omitempty"`     // operations that are not applied
	Workers *int   `json:"workers,omitempty"`
}

type indexStatus struct {
	admin.IndexPage
	Mapping string `json:"mapping"` // same, differs, unknown

	summary string // of what is proven
}

type requestStatus struct {
	ID         int64      `json:"id"`
	Kind       string     `json:"kind"`
	Index      string     `json:"index"`
	Condition  string     `json:"condition,omitempty"`
	Phase      string     `json:"phase"`
	Message    string     `json:"message,omitempty"`
	RowsDone   int64      `json:"rows_done"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// errAttention ends status where something waits for somebody; what it is was printed.
var errAttention = errors.New("something waits for somebody, see above")

func newStatus(stderr io.Writer) *cobra.Command {
	var o grouped
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how far the indices are",
		Long: "Says how far the indices are, from the database and the cluster, whether an instance runs or not: state and\n" +
			"documents of each, how far a rebuild is, the slot and its lag, and what was asked for last. Exit code 1 says\n" +
			"that something waits for somebody.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			log := logging.New(stderr, true, slog.LevelError)
			config, err := o.read(c.Context(), log, askPatience)
			if err != nil {
				return err
			}
			r, err := readStatus(c.Context(), config, log)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(c.OutOrStdout())
				encoder.SetIndent("", "  ")
				err = encoder.Encode(r)
			} else {
				_, err = c.OutOrStdout().Write(r.table())
			}
			if err != nil {
				return fmt.Errorf("print the status: %w", err)
			}
			if len(r.Problems) > 0 {
				return errAttention
			}
			return nil
		},
	}
	c.Flags().StringVarP(&o.file, "config", "c", "tidemark.yaml", "mapping `file`")
	o.addGroup(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

// readStatus asks database and cluster.
func readStatus(ctx context.Context, config *mapping.Config, log *slog.Logger) (*statusReport, error) {
	db, err := prepare.Open(ctx, config, log, askPatience)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	r := &statusReport{Group: config.Group, Indices: []indexStatus{}, Requests: []requestStatus{}, Problems: []string{}, Notes: []string{}}
	tables, err := r.readTables(ctx, config, db)
	if err != nil {
		return nil, err
	}
	if err := r.readSlot(ctx, config, db, tables, log); err != nil {
		return nil, err
	}
	found, err := control.Look(ctx, db, config.StateSchema())
	if err != nil {
		return nil, err
	}
	if err := found.Current(); err != nil {
		r.Notes = append(r.Notes, err.Error()+withHint("tidemark check says what the next run makes of it"))
	}
	if err := r.readIndices(ctx, config, db, found, tables); err != nil {
		return nil, err
	}
	if found.Readable {
		if err := r.readRequests(ctx, config, db); err != nil {
			return nil, err
		}
	}
	r.readTopics(ctx, config, log)
	r.readCluster(ctx, config, log)
	r.readAlarms(ctx, config)
	return r, nil
}

// readAlarms asks the instance of the slot what holds it up, which may keep it from following the
// slot. It alone knows, and it may be on another host.
func (r *statusReport) readAlarms(ctx context.Context, config *mapping.Config) {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	slot, alarms, err := admin.Ask(ctx, config.Admin.Listen)
	if err == nil && slot != r.Slot.Name {
		err = fmt.Errorf("the instance at %s follows slot %s", config.Admin.Listen, slot)
	}
	if err != nil && !r.Slot.Active {
		return // there is none
	}
	if err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("what holds the instance up is not known: %v", err))
		return
	}
	for _, a := range alarms {
		r.Problems = append(r.Problems, fmt.Sprintf("since %s: %s: %s", a.Since.Local().Format(time.DateTime), a.Key, a.Text))
	}
}

// readTables reads the catalog about the tables of the mapping, as far as they are there.
func (r *statusReport) readTables(ctx context.Context, config *mapping.Config, db *sql.DB) (catalog.Tables, error) {
	tables := make(catalog.Tables)
	for _, name := range config.Tables() {
		t, err := catalog.LoadTable(ctx, db, name.Schema, name.Name)
		switch {
		case errors.Is(err, catalog.ErrNoTable):
			r.Problems = append(r.Problems, fmt.Sprintf("there is no table %s; tidemark check says more", name))
		case err != nil:
			return nil, err
		default:
			tables[name] = t
		}
	}
	tables.Follow(config.WithChildren())
	return tables, nil
}

// readSlot reads how the slot is, and whether changes are missing.
func (r *statusReport) readSlot(ctx context.Context, config *mapping.Config, db *sql.DB, tables catalog.Tables, log *slog.Logger) error {
	s := slotStatus{Name: config.Postgres.Slot, Exists: true}
	var confirmed *string
	err := prepare.AtSlot(config, db, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT s.active, coalesce(s.wal_status, ''), s.confirmed_flush_lsn::text, pg_catalog.date_part('epoch', r.replay_lag)
			FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
			WHERE s.slot_name = $1`, s.Name).Scan(&s.Active, &s.WALStatus, &confirmed, &s.LagSeconds)
	})
	if err == nil {
		err = db.QueryRowContext(ctx, `SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), $1::pg_lsn)::bigint END`, confirmed).Scan(&s.LagBytes)
	}
	if errors.Is(err, sql.ErrNoRows) {
		s.Exists = false
	} else if err != nil {
		return fmt.Errorf("look at slot %s: %w", s.Name, err)
	}
	r.Slot = s
	found, err := dbsync.Inspect(ctx, prepare.SyncerOptions(config, tables, log)...)
	if err != nil {
		return fmt.Errorf("inspect the database: %w", err)
	}
	if found.Lost != nil {
		r.Problems = append(r.Problems, found.Lost.Error())
	}
	if found.Standbys != "" {
		r.Problems = append(r.Problems, found.Standbys)
	}
	return nil
}

// readIndices reads what the control schema has of each index, as far as it can be read.
func (r *statusReport) readIndices(ctx context.Context, config *mapping.Config, db *sql.DB, found control.Condition, tables catalog.Tables) (err error) {
	schema := openControl(config, db)
	states, proofs := schema.States(), schema.Proofs()
	var letters map[string]int64 // by write alias
	if found.Made {
		if letters, err = schema.DeadLetters(nil).Counts(ctx, control.LetterFilter{}); err != nil {
			return err
		}
	}
	var fanOuts []control.FanOutStatus
	if found.FanOuts {
		if fanOuts, err = schema.FanOuts().Open(ctx); err != nil {
			return err
		}
	}
	var now time.Time // by the clock that wrote the states
	if err := db.QueryRowContext(ctx, `SELECT pg_catalog.now()`).Scan(&now); err != nil {
		return fmt.Errorf("read the clock of Postgres: %w", err)
	}
	for _, ix := range config.Indices {
		var st *control.State
		if found.Readable {
			if st, err = states.Read(ctx, ix.Name); err != nil {
				return err
			}
		}
		s := statusOf(ix, st, tables, letters)
		if st != nil && st.Live.Physical != "" && found.Proofs {
			proof, err := proofs.Read(ctx, ix.Name)
			if err != nil {
				return err
			}
			r.prove(&s, admin.Proof{Proof: proof.Of(st), FilledAt: st.FinishedAt})
		}
		s.FanOut = admin.NewFanOutPage(control.SumFanOuts(fanOuts, ix.Name))
		if s.State == admin.Incomplete {
			r.Problems = append(r.Problems, fmt.Sprintf("index %s misses changes until another physical index is filled, which an instance of tidemark run does", ix.Name))
		}
		r.Indices = append(r.Indices, s)
		if st != nil && r.Slot.Active {
			r.Indices[len(r.Indices)-1].Expect(st.RowsPerSecond(now))
		}
	}
	return nil
}

// prove says what is proven of an index.
func (r *statusReport) prove(s *indexStatus, p admin.Proof) {
	s.Proof, s.summary = p.Page(), p.Summary()
	if problem := p.Problem(); problem != "" {
		r.Problems = append(r.Problems, problem)
	}
}

func statusOf(ix *mapping.Index, st *control.State, tables catalog.Tables, letters map[string]int64) indexStatus {
	s := indexStatus{IndexPage: admin.IndexPage{Index: ix.Name, State: admin.Missing}, Mapping: "unknown"}
	if st == nil {
		return s
	}
	s.Physical, s.Building, s.RowsDone = st.Live.Physical, st.Building.Physical, st.Done
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if physical != "" {
			s.DeadLetters += letters[search.WriteAlias(ix.Name, physical)]
		}
	}
	of := st.Live.Fingerprint
	switch {
	case st.Incomplete():
		s.State = admin.Incomplete
		if st.Building.Physical != "" {
			of = st.Building.Fingerprint
		}
	case st.Building.Physical != "" && st.Live.Physical != "":
		s.State, of = admin.Rebuilding, st.Building.Fingerprint
	case st.Building.Physical != "":
		s.State, of = admin.Backfilling, st.Building.Fingerprint
	case st.Live.Physical != "":
		s.State = admin.Live
	}
	known := true
	for _, name := range ix.Tables() {
		known = known && tables[name] != nil
	}
	if known && s.State != admin.Missing {
		s.Mapping = "differs"
		if ix.Matches(of, tables) {
			s.Mapping = "same"
		}
	}
	if st.Building.Physical == "" {
		return s
	}
	if st.Total >= 0 {
		total := max(st.Total, st.Done)
		s.RowsExpected = &total
	}
	return s
}

func (r *statusReport) readRequests(ctx context.Context, config *mapping.Config, db *sql.DB) error {
	recent, err := openControl(config, db).Requests().Recent(ctx, shownRequests)
	if err != nil {
		return err
	}
	for _, q := range recent {
		s := requestStatus{ID: q.ID, Kind: string(q.Kind), Index: q.Index, Condition: q.Condition, Phase: string(q.Phase), Message: q.Message, RowsDone: q.Rows, CreatedAt: q.CreatedAt}
		if !q.FinishedAt.IsZero() {
			s.FinishedAt = &q.FinishedAt
		}
		r.Requests = append(r.Requests, s)
	}
	return nil
}

// readTopics asks Kafka how far workers are: with the topic of the cluster that config is of, and where that is the file's own,
// with those of the groups, too. What Kafka does not answer is left out.
func (r *statusReport) readTopics(ctx context.Context, config *mapping.Config, log *slog.Logger) {
	if config.Kafka == nil {
		return
	}
	configs := []*mapping.Config{config}
	for _, name := range config.GroupNames() {
		if of, ok := config.OfGroup(name); ok {
			configs = append(configs, of)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, clusterPatience) // for all of them
	defer cancel()
	for _, c := range configs {
		s := topicStatus{Name: c.Kafka.Topic, Group: c.Kafka.Group, Cluster: c.Group}
		lag, err := askLag(ctx, c, log)
		if err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("Kafka does not answer how much of topic %s is not applied: %v", s.Name, err))
		}
		if lag != nil {
			s.Lag, s.Workers = &lag.Records, &lag.Members
		}
		if lag != nil && lag.Records > 0 && lag.Members == 0 {
			r.Problems = append(r.Problems, fmt.Sprintf("%d operations in topic %s wait, and group %s has no worker; hint: tidemark apply", lag.Records, s.Name, s.Group))
		}
		r.Topics = append(r.Topics, s)
	}
}

// askLag asks the Kafka of c how far workers are; nil while there is no topic, which run makes.
func askLag(ctx context.Context, c *mapping.Config, log *slog.Logger) (*topic.Lag, error) {
	client, err := prepare.ConnectKafka(ctx, c, retry.NewAlarm(log), log, clusterPatience)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	state, err := client.State(ctx)
	if err != nil || state == (topic.State{}) {
		return nil, err
	}
	lag, err := client.Lag(ctx)
	if err != nil {
		return nil, err
	}
	return &lag, nil
}

// readCluster counts the documents that searchers see. A cluster that does not answer
// leaves that out.
func (r *statusReport) readCluster(ctx context.Context, config *mapping.Config, log *slog.Logger) {
	o := prepare.SearchOptions(config, log)
	o.StartTimeout = clusterPatience
	client, err := search.Connect(ctx, o)
	if err != nil {
		r.Notes = append(r.Notes, "documents are not counted: "+err.Error())
		return
	}
	defer client.Close()
	for i := range r.Indices {
		ix := &r.Indices[i]
		if ix.Physical == "" {
			continue
		}
		n, err := client.Count(ctx, ix.Physical)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("index %s: count its documents: %v", ix.Index, err))
			continue
		}
		ix.Documents = &n
	}
}
