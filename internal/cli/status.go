package cli

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/indexer/search"
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

// States of an index, as status says them.
const (
	stateLive       = "live"       // complete, and kept equal to its table
	stateFilling    = "filling"    // filled for the first time, searchers see nothing yet
	stateRebuilding = "rebuilding" // live, and a new physical index is filled beside it
	stateMissing    = "missing"    // nothing is there yet
)

// A statusReport is what status prints as JSON. docs/reindex.md describes it.
type statusReport struct {
	Slot     slotStatus      `json:"slot"`
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

type indexStatus struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Physical    string `json:"physical,omitempty"`
	Building    string `json:"building,omitempty"`
	Documents   *int64 `json:"documents,omitempty"` // that searchers see
	DeadLetters int64  `json:"dead_letters"`
	Mapping     string `json:"mapping"` // same, differs, unknown

	// Of the filling under way, or of the last one.
	RowsDone      int64    `json:"rows_done"`
	RowsTotal     *int64   `json:"rows_total,omitempty"`
	RowsPerSecond *float64 `json:"rows_per_second,omitempty"`
	SecondsLeft   *float64 `json:"seconds_left,omitempty"`
}

type requestStatus struct {
	ID         int64      `json:"id"`
	Kind       string     `json:"kind"`
	Index      string     `json:"index"`
	Condition  string     `json:"condition,omitempty"`
	Phase      string     `json:"phase"`
	Message    string     `json:"message,omitempty"`
	Rows       int64      `json:"rows"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// errAttention ends status where something waits for somebody; what it is was printed.
var errAttention = errors.New("something waits for somebody, see above")

func newStatus(stderr io.Writer) *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how far the indices are",
		Long: "Says how far the indices are, from the database and the cluster, whether an instance runs or not: state and\n" +
			"documents of each, how far a rebuild is, the slot and its lag, and what was asked for last. Exit code 1 says\n" +
			"that something waits for somebody.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := mapping.Read(file)
			if err != nil {
				return err
			}
			log := logging.New(stderr, true, slog.LevelError)
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
	c.Flags().StringVarP(&file, "config", "c", "tidemark.yaml", "mapping `file`")
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
	r := &statusReport{Indices: []indexStatus{}, Requests: []requestStatus{}, Problems: []string{}, Notes: []string{}}
	tables, err := r.readTables(ctx, config, db)
	if err != nil {
		return nil, err
	}
	if err := r.readSlot(ctx, config, db, tables, log); err != nil {
		return nil, err
	}
	found, err := control.Look(ctx, db, config.Postgres.ControlSchema)
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
	r.readCluster(ctx, config, log)
	return r, nil
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
	return tables, nil
}

// readSlot reads how the slot is, and whether changes are missing.
func (r *statusReport) readSlot(ctx context.Context, config *mapping.Config, db *sql.DB, tables catalog.Tables, log *slog.Logger) error {
	s := slotStatus{Name: config.Postgres.Slot, Exists: true}
	err := db.QueryRowContext(ctx, `SELECT s.active, coalesce(s.wal_status, ''),
		CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint END,
		pg_catalog.date_part('epoch', r.replay_lag)
		FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
		WHERE s.slot_name = $1`, s.Name).Scan(&s.Active, &s.WALStatus, &s.LagBytes, &s.LagSeconds)
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
	return nil
}

// readIndices reads what the control schema has of each index, as far as it can be read.
func (r *statusReport) readIndices(ctx context.Context, config *mapping.Config, db *sql.DB, found control.Condition, tables catalog.Tables) (err error) {
	states := control.NewStates(db, config.Postgres.ControlSchema)
	var letters map[string]int64 // by write alias
	if found.Made {
		if letters, err = control.NewDeadLetters(db, config.Postgres.ControlSchema, nil).Counts(ctx, control.LetterFilter{}); err != nil {
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
		r.Indices = append(r.Indices, statusOf(ix, st, tables, letters))
		if st != nil && r.Slot.Active {
			r.Indices[len(r.Indices)-1].expect(st.RowsPerSecond(now))
		}
	}
	return nil
}

func statusOf(ix *mapping.Index, st *control.State, tables catalog.Tables, letters map[string]int64) indexStatus {
	s := indexStatus{Name: ix.Name, State: stateMissing, Mapping: "unknown"}
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
	case st.Building.Physical != "" && st.Live.Physical != "":
		s.State, of = stateRebuilding, st.Building.Fingerprint
	case st.Building.Physical != "":
		s.State, of = stateFilling, st.Building.Fingerprint
	case st.Live.Physical != "":
		s.State = stateLive
	}
	known := true
	for _, name := range ix.Tables() {
		known = known && tables[name] != nil
	}
	if known && s.State != stateMissing {
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
		s.RowsTotal = &total
	}
	return s
}

// expect has the filling go on at that rate.
func (ix *indexStatus) expect(rate float64) {
	if rate <= 0 {
		return
	}
	ix.RowsPerSecond = &rate
	if ix.RowsTotal != nil {
		left := float64(*ix.RowsTotal-ix.RowsDone) / rate
		ix.SecondsLeft = &left
	}
}

func (r *statusReport) readRequests(ctx context.Context, config *mapping.Config, db *sql.DB) error {
	recent, err := control.NewRequests(db, config.Postgres.ControlSchema, config.Postgres.Slot).Recent(ctx, shownRequests)
	if err != nil {
		return err
	}
	for _, q := range recent {
		s := requestStatus{ID: q.ID, Kind: string(q.Kind), Index: q.Index, Condition: q.Condition, Phase: string(q.Phase), Message: q.Message, Rows: q.Rows, CreatedAt: q.CreatedAt}
		if !q.FinishedAt.IsZero() {
			s.FinishedAt = &q.FinishedAt
		}
		r.Requests = append(r.Requests, s)
	}
	return nil
}

// readCluster counts the documents that searchers see. A cluster that does not answer
// leaves that out.
func (r *statusReport) readCluster(ctx context.Context, config *mapping.Config, log *slog.Logger) {
	client, err := search.Connect(ctx, search.Options{
		URLs: config.Search.URLs, User: config.Search.User, Password: config.Search.Password.Reveal(), APIKey: config.Search.APIKey.Reveal(),
		CAFile: config.Search.CAFile, StartTimeout: clusterPatience, Logger: log,
	})
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
			r.Problems = append(r.Problems, fmt.Sprintf("index %s: count its documents: %v", ix.Name, err))
			continue
		}
		ix.Documents = &n
	}
}

// table is the report for people.
func (r *statusReport) table() []byte {
	var b bytes.Buffer
	s := r.Slot
	fmt.Fprintf(&b, "slot %s: ", s.Name)
	switch {
	case !s.Exists:
		b.WriteString("does not exist")
	case s.Active:
		b.WriteString("an instance follows it")
	default:
		b.WriteString("no instance follows it")
	}
	if s.LagBytes != nil {
		fmt.Fprintf(&b, ", %s behind", size(max(0, *s.LagBytes)))
		if s.LagSeconds != nil {
			fmt.Fprintf(&b, " (%s)", duration(*s.LagSeconds))
		}
	}
	if s.WALStatus != "" && s.WALStatus != "reserved" {
		fmt.Fprintf(&b, ", its log is %s", s.WALStatus)
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "index\tstate\tdocuments\tdead letters\tphysical index")
	for _, ix := range r.Indices {
		documents := "?"
		if ix.Documents != nil {
			documents = fmt.Sprint(*ix.Documents)
		} else if ix.Physical == "" {
			documents = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", ix.Name, ix.State, documents, ix.DeadLetters, cmp.Or(ix.Physical, ix.Building, "-"))
	}
	w.Flush() // to memory
	for _, ix := range r.Indices {
		if ix.Building != "" {
			what := "is being filled"
			if !s.Active {
				what = "goes on being filled by the next instance"
			}
			fmt.Fprintf(&b, "\n%s %s as %s: %s\n", ix.Name, what, ix.Building, ix.progress())
		}
		if ix.Mapping == "differs" {
			fmt.Fprintf(&b, "\n%s: the mapping or its tables differ from those of the index: the next run follows, tidemark check says how\n", ix.Name)
		}
	}
	if len(r.Requests) > 0 {
		b.WriteByte('\n')
		fmt.Fprintln(w, "request\twhat\tindex\tstate\trows\tasked for")
		for _, q := range r.Requests {
			what := q.Kind
			if q.Condition != "" {
				what += " where " + shortened(q.Condition, 60)
			}
			rows := "-"
			if q.Kind == string(control.KindRefresh) {
				rows = fmt.Sprint(q.Rows)
			}
			state := q.Phase
			if q.Message != "" {
				state += ": " + shortened(q.Message, 60)
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", q.ID, what, q.Index, state, rows, q.CreatedAt.Local().Format(time.DateTime))
		}
		w.Flush() // to memory
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", note)
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(&b, "\nproblem: %s\n", problem)
	}
	return b.Bytes()
}

func (ix *indexStatus) progress() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows", ix.RowsDone)
	if ix.RowsTotal != nil {
		percent := int64(100)
		if *ix.RowsTotal > 0 {
			percent = min(99, ix.RowsDone*100 / *ix.RowsTotal)
		}
		fmt.Fprintf(&b, " of about %d (%d %%)", *ix.RowsTotal, percent)
	}
	if ix.RowsPerSecond != nil {
		fmt.Fprintf(&b, ", %.0f rows/s", *ix.RowsPerSecond)
	}
	if ix.SecondsLeft != nil {
		fmt.Fprintf(&b, ", about %s left", duration(*ix.SecondsLeft))
	}
	return b.String()
}

func duration(seconds float64) time.Duration {
	return (time.Duration(seconds * float64(time.Second))).Round(time.Second)
}

// shortened is a text on one line of a table, of at most so many characters.
func shortened(text string, most int) string {
	words := []rune(strings.Join(strings.Fields(text), " "))
	if len(words) > most {
		return string(words[:most-1]) + "…"
	}
	return string(words)
}
