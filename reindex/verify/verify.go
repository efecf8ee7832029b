package verify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// Options says how an index is verified. Everything is required but SlotDB, WatermarkSchema, Alarm, Applied,
// Sample, Listed, Repair and Walk.
type Options struct {
	DB       *sql.DB // of [dbsync.OpenDB]
	SlotDB   *sql.DB // leads to the server that has the slot; nil: DB
	Client   *search.Client
	Schema   string // that has the state of the index: the control schema, or that of a group
	Slot     string // which an instance follows meanwhile
	Tables   catalog.Tables
	Progress Progress
	Logger   *slog.Logger

	// WatermarkSchema is the control schema, which has the watermarks of the slot; "": Schema.
	WatermarkSchema string

	// Sample is the part of rows and of documents that is looked at, chosen at random:
	// above 0 and below 1; 0: all of them.
	Sample float64

	// Listed has only the documents looked at, and their rows looked for: what differs
	// otherwise is not found. However many have no row, all are found.
	Listed bool

	// Repair repairs what differs: rows are asked to be read again by the instance, documents
	// without a row are removed.
	Repair bool

	// Bulk, if given, is the one whose requests those of Repair are counted among.
	Bulk *search.Bulk

	// Applied, if given, waits until what the instance handed over before the call is in the cluster, where
	// its slot moves before that.
	Applied func(ctx context.Context) error

	// Alarm shows what is tried again; nil: it is only logged.
	Alarm *retry.Alarm

	// Walk, if given, has Run go on where the walk stands; without Sample and Listed.
	Walk *Walk

	// Found is called for each difference, when it is sure and, with Repair, when fixing it
	// was tried. Its error ends Run.
	Found func(Difference) error
}

// A DifferenceKind says how index and tables differ.
type DifferenceKind string

const (
	Missing DifferenceKind = "missing" // a row has no document
	Extra   DifferenceKind = "extra"   // a document has no row, or is on a shard that the row's is not on
	Differs DifferenceKind = "differs" // a document is not what its row makes it
	Unmade  DifferenceKind = "unmade"  // no document can be made of a row
)

// A Difference is a document that is not as it should be.
type Difference struct {
	Index    string         `json:"index"`
	ID       string         `json:"id"`
	Routing  string         `json:"routing,omitempty"`
	Kind     DifferenceKind `json:"kind"`
	Path     string         `json:"path,omitempty"` // of the first value that differs; _routing for that of the document
	Want     string         `json:"want,omitempty"` // JSON, "" for a field that is not there
	Got      string         `json:"got,omitempty"`
	More     int            `json:"more,omitempty"`    // values that differ besides
	Version  int64          `json:"version,omitempty"` // of the document
	Note     string         `json:"note,omitempty"`
	Repaired bool           `json:"repaired,omitempty"`
}

// A Result is what came of verifying an index.
type Result struct {
	Index     string `json:"index"`
	Physical  string `json:"physical"`
	Rows      int64  `json:"rows"` // that were looked at, without those that are no documents
	Documents int64  `json:"documents"`
	Missing   int64  `json:"missing"`
	Extra     int64  `json:"extra"`
	Differing int64  `json:"differing"` // unmade ones among them
	Repaired  int64  `json:"repaired"`  // of these
	Undecided int64  `json:"undecided"` // documents that changed from look to look
	Looks     int64  `json:"looks"`     // at suspects, each one counted
}

// Differences returns how many there are, without those that were repaired.
func (v *Result) Differences() int64 { return v.Missing + v.Extra + v.Differing - v.Repaired }

// maxDifferences ends verifying: from there on a rebuild is cheaper than to go on.
const maxDifferences = 100_000

// A TooDifferentError reports an index that is hardly worth repairing.
type TooDifferentError struct {
	Index string
	At    control.Walk // how far it came
}

func (e *TooDifferentError) Error() string {
	return fmt.Sprintf("index %s: there are more than %d differences, and the rest was not looked at; hint: tidemark reindex %s", e.Index, maxDifferences, e.Index)
}

// ErrRebuiltMeanwhile reports that the alias was moved while its index was verified.
var ErrRebuiltMeanwhile = errors.New("the index was rebuilt meanwhile; hint: verify it again")

// Run compares the documents of an index with the rows of its tables, while both change. See
// the package for how.
//
// The index is complete, its mapping is ix, and an instance follows the slot. The error is a
// [*dbsync.SetBackError] where a document that differs has a version that is ahead of the log.
func Run(ctx context.Context, ix *mapping.Index, o Options) (*Result, error) {
	v, err := newVerifier(ctx, ix, o)
	if err == nil {
		defer v.close(ctx)
		if err = v.run(ctx); errors.Is(err, search.ErrNoIndex) {
			err = cmp.Or(v.same(ctx), err) // it is dropped after a rebuild
		}
	}
	if err != nil {
		return nil, fmt.Errorf("verify index %s: %w", ix.Name, err)
	}
	return &v.result, nil
}

// A verifier verifies one index.
type verifier struct {
	o        Options
	ix       *mapping.Index
	alarm    *retry.Alarm
	physical string
	base     pglogrepl.LSN // of the versions of its documents
	stored   storedForm
	sources  []*source
	slot     *Slot
	bar      Bar

	suspects map[location]*suspect
	setBack  error // a document's version is ahead of the log; nil: none is known to be
	result   Result

	at    control.Walk // how far it is, with what was found before this process
	noted struct {     // last, of a walk
		rows int64
		at   time.Time
	}
}

// A location is where a document is.
type location struct{ id, routing string }

// A source is one of the index's, with what its rows are read by.
type source struct {
	*mapping.Source
	rows      rowPlan           // whole rows
	keys      rowPlan           // keys alone
	rowsAgain rowPlan           // whole rows, and after them what tells two versions of a row apart
	keysAgain rowPlan           // the same of keys
	hashed    map[location]bool // of documents of rows that were read, whose ids are hashes
}

// A rowPlan reads rows.
type rowPlan struct {
	*indexer.RowPlan
	whole bool // documents are made of the rows; otherwise they have their keys and what where and routing need
}

func newSource(documents *indexer.Documents, s *mapping.Source, tables catalog.Tables) (*source, error) {
	rows, err := indexer.NewRowPlan(documents, s, tables)
	if err != nil {
		return nil, err
	}
	keys := rows.OfColumns()
	return &source{Source: s, hashed: make(map[location]bool),
		rows: rowPlan{rows, true}, rowsAgain: rowPlan{rows.With("t.xmin", "t.ctid"), true},
		keys: rowPlan{keys, false}, keysAgain: rowPlan{keys.With("t.xmin", "t.ctid"), false}}, nil
}

// maxHashed bounds how many hashed ids of rows are remembered. Documents with other hashes are
// suspects, and cost a look each.
const maxHashed = 500_000

// storedForm says what of a document the index keeps to be read again.
type storedForm int

const (
	storedWhole storedForm = iota
	storedPartly
	storedNot
)

func newVerifier(ctx context.Context, ix *mapping.Index, o Options) (*verifier, error) {
	v := &verifier{o: o, ix: ix, alarm: o.Alarm, stored: storedFormOf(ix, o.Client.Product()), suspects: make(map[location]*suspect)}
	if v.alarm == nil {
		v.alarm = retry.NewAlarm(o.Logger)
	}
	documents := &indexer.Documents{Index: ix}
	for _, s := range ix.Sources {
		source, err := newSource(documents, s, o.Tables)
		if err != nil {
			return nil, err
		}
		v.sources = append(v.sources, source)
	}
	live, err := v.live(ctx)
	if err != nil {
		return nil, err
	}
	v.physical, v.base = live.Physical, live.Base
	v.result.Index, v.result.Physical = ix.Name, v.physical
	if w := o.Walk; w != nil {
		if w.Physical != v.physical {
			return nil, ErrRebuiltMeanwhile
		}
		v.at = w.At
		v.setNoted()
	}
	if v.slot, err = OpenSlot(ctx, SlotOptions{DB: o.DB, SlotDB: o.SlotDB, Schema: o.Schema, Slot: o.Slot, WatermarkSchema: o.WatermarkSchema}); err != nil {
		return nil, err
	}
	v.slot.physical, v.slot.Applied = v.physical, o.Applied
	return v, nil
}

// storedFormOf returns what of documents of ix can be read again. Elasticsearch gives vectors
// out only when they are asked for by name, from 9.2 on.
func storedFormOf(ix *mapping.Index, server search.Product) storedForm {
	source, _ := ix.Mappings["_source"].(map[string]any)
	switch {
	case source["enabled"] == false || source["enabled"] == "false":
		return storedNot
	case source["includes"] != nil || source["excludes"] != nil:
		return storedPartly
	case server.Name == "Elasticsearch" && slices.ContainsFunc(ix.Sources, func(s *mapping.Source) bool { return hasVectors(&s.Shape) }):
		return storedPartly
	}
	return storedWhole
}

// hasVectors reports whether an object has a field of vectors that are for searching.
func hasVectors(s *mapping.Shape) bool {
	return fieldsHaveVectors(s.Fields) || slices.ContainsFunc(s.Include, func(in *mapping.Include) bool { return hasVectors(&in.Shape) })
}

func fieldsHaveVectors(fields []mapping.Field) bool {
	return slices.ContainsFunc(fields, func(f mapping.Field) bool {
		kind, _ := f.Params["type"].(string)
		return strings.HasSuffix(kind, "_vector") || strings.HasSuffix(kind, "_vectors") || fieldsHaveVectors(f.Group)
	})
}

func (v *verifier) close(ctx context.Context) { v.slot.close(ctx) }

// live returns the physical index that searchers see, which is the one that is kept equal
// to the tables.
func (v *verifier) live(ctx context.Context) (live control.Version, err error) {
	st, err := control.Open(v.o.DB, v.o.Schema, v.o.Slot).States().Read(ctx, v.ix.Name)
	if err != nil {
		return live, err
	}
	if st == nil || st.Live.Physical == "" {
		return live, errors.New("the index is not complete yet; hint: tidemark run")
	}
	if !v.ix.Matches(st.Live.Fingerprint, v.o.Tables) && !control.HasGrown(v.ix, st, v.o.Tables) {
		return live, errors.New("the documents of the index in use are made by another mapping; hint: tidemark run, which rebuilds it")
	}
	var behind []string
	err = v.retry(ctx, "look what the alias stands for", func(ctx context.Context) error {
		behind, err = v.o.Client.AliasTargets(ctx, v.ix.Name)
		return err
	})
	if err != nil {
		return live, err
	}
	if !slices.Equal(behind, []string{st.Live.Physical}) {
		return live, fmt.Errorf("the alias stands for %q, and not for %s, which is kept equal to the table; hint: remove the alias, then run puts it back", behind, st.Live.Physical)
	}
	return st.Live, nil
}

func (v *verifier) retry(ctx context.Context, what string, f func(ctx context.Context) error) error {
	return retry.Do(ctx, v.alarm, what, f)
}

func (v *verifier) run(ctx context.Context) error {
	total := int64(-1)
	if v.o.Sample == 0 {
		total = EstimateTotal(ctx, v.o.Client, v.ix, v.o.Tables, v.physical)
	}
	v.bar = v.o.Progress.Begin(v.ix.Name, Rows{Estimated: total})
	defer v.bar.Stop()
	// What is behind now would all be looked at twice.
	if err := v.slot.awaitNow(ctx); err != nil {
		return err
	}
	if !v.o.Listed && v.at.Phase != control.WalkDocuments {
		for i := v.at.Source; i < len(v.sources); i++ {
			if err := v.readRows(ctx, i); err != nil {
				return fmt.Errorf("rows of %s: %w", v.sources[i].Table, err)
			}
		}
	}
	if err := v.listDocuments(ctx); err != nil {
		return err
	}
	if err := v.lookAgain(ctx); err != nil {
		return err
	}
	if err := v.note(ctx); err != nil {
		return err
	}
	v.bar.Done()
	return v.same(ctx)
}

// same makes sure that the index is still the one that searchers see.
func (v *verifier) same(ctx context.Context) error {
	live, err := v.live(ctx)
	if err == nil && live.Physical != v.physical {
		err = ErrRebuiltMeanwhile
	}
	return err
}

// maxSuspects bounds how many suspects there are before they are looked at again.
const maxSuspects = 10_000

// suspect has a document looked at again.
func (v *verifier) suspect(ctx context.Context, s *suspect) error {
	if v.suspects[s.location] == nil {
		v.suspects[s.location] = s
	}
	if len(v.suspects) < maxSuspects {
		return nil
	}
	return v.lookAgain(ctx)
}

// report counts a difference and hands it on.
func (v *verifier) report(d Difference) error {
	switch d.Kind {
	case Missing:
		v.result.Missing++
	case Extra:
		v.result.Extra++
	default:
		v.result.Differing++
	}
	v.at.Found++
	if d.Repaired {
		v.result.Repaired++
		v.at.Repaired++
	}
	return v.o.Found(d)
}
