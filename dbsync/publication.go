package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publicationMark begins the comment by which a publication is known as one that a Syncer made,
// and may change. The name of the control schema follows, in which the slots that use it are
// noted with the tables that they need. Earlier versions wrote the mark alone.
const publicationMark = "kept by dbsync"

// mark is the comment of the publication as this Syncer writes it.
func (s *Syncer) mark() string { return publicationMark + markSchema + s.namespace }

const markSchema = " from control schema "

// A publicationLook is what one look found of the publication, of the tables that are in it, and
// of those that have to be.
type publicationLook struct {
	oid       uint32 // 0: there is none
	comment   string
	keepers   []string // control schemas that it is kept from
	ours      bool     // it is kept from this control schema
	owned     bool     // by this role
	everyKind bool     // of change is published
	viaRoot   bool     // changes of a partition are those of its root
	generated bool     // columns that are generated and stored are published, or the server cannot do that
	all       bool     // of the tables are in it
	schemas   []string // all of whose tables are in it

	noted   slotTables // what is noted of this slot
	unknown bool       // another slot has not said what it needs: an earlier version uses it

	tables []publicationTable
}

// slotTables is what a slot needs: the tables, by their oids in ascending order, in which
// publication, and the columns of those of which it does not need all, see noteOf.
type slotTables struct {
	publication string
	tables      []uint32
	columns     []string
}

func (t *slotTables) equal(other slotTables) bool {
	return t.publication == other.publication && slices.Equal(t.tables, other.tables) && slices.Equal(t.columns, other.columns)
}

// A publicationTable is a table that is in the publication, or has to be.
type publicationTable struct {
	oid         uint32
	name        string // quoted, with its schema
	partitioned bool

	own   bool // this slot needs it
	other bool // another slot needs it

	columns    []publicationColumn // where a slot needs the table
	ownNeed    columnNeed          // of this slot
	need       columnNeed          // of all slots
	keys       []int16             // columns of unique indexes, also of its partitions, by their numbers here
	unlistable bool                // the replica identity is the whole row, or has a column that can be in no list

	member   uint32  // the oid of its row in pg_publication_rel; 0: there is none
	since    uint32  // the row that this one goes on from without a gap: itself, or the first one that was made here
	made     bool    // the row was made here
	filtered bool    // by a condition, so that some rows are not published
	list     []int16 // the only columns that are published, ascending; nil: there is no such list
	busy     bool    // others write to it, so that its list is not changed now
	inSchema bool    // it is in the publication with its schema
	under    string  // the table above it that its changes are published under; "" where there is none
}

// leftOut are the columns that this slot needs and a list leaves out, quoted. Generated ones do not
// count: rows that have them are read again.
func (t *publicationTable) leftOut() (names []string) {
	if t.list == nil {
		return nil
	}
	for _, c := range t.columns {
		if !c.generated && t.ownNeed.has(c.number) && !slices.Contains(t.list, c.number) {
			names = append(names, c.name)
		}
	}
	return names
}

// covered reports whether the publication has the table.
func (l *publicationLook) covered(t *publicationTable) bool {
	return t.member != 0 || t.inSchema || l.all
}

// own returns what this slot needs.
func (l *publicationLook) own(publication string) slotTables {
	own := slotTables{publication: publication}
	for _, t := range l.tables {
		if t.own {
			own.tables = append(own.tables, t.oid)
			if note := noteOf(t.oid, t.ownNeed); note != "" {
				own.columns = append(own.columns, note)
			}
		}
	}
	return own
}

// A membership names the time for which tables have been in a publication: the oids of the
// publication and, by table, of its rows in pg_publication_rel. See [TableGeneration].
type membership struct {
	publication uint32
	tables      map[uint32]uint32
	columns     []string // as in slotTables
}

func (l *publicationLook) membership() membership {
	m := membership{publication: l.oid, tables: make(map[uint32]uint32), columns: l.own("").columns}
	for _, t := range l.tables {
		if t.own {
			m.tables[t.oid] = t.member
		}
	}
	return m
}

// wanted is what a look takes as the tables that this slot needs.
type wanted struct {
	tables []neededTable // each has to exist, and its columns
	noted  bool          // and what is noted of the slot; nothing is taken out then
}

// names are those of the tables.
func (w wanted) names() []string {
	names := make([]string, len(w.tables))
	for i, t := range w.tables {
		names[i] = t.name
	}
	return names
}

// wants returns what this Syncer was asked for, and its watermark table. What is noted stays where
// nobody has named any tables, and where another process follows the slot, which may be one with
// other tables: when that has ended Publish, or the next start, takes out what is needed no more.
func (s *Syncer) wants(ctx context.Context, q querier) (wanted, error) {
	slot, err := s.readSlot(ctx, q)
	return wanted{tables: s.withWatermarks(s.tables), noted: len(s.tables) == 0 || slot.active}, err
}

// withWatermarks adds the watermark table, the whole of it.
func (s *Syncer) withWatermarks(tables []neededTable) []neededTable {
	return append(slices.Clone(tables), neededTable{name: s.control(s.wmTable)})
}

// querier is what pgx connections and transactions have in common.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// lookAtPublication looks at the publication. notes says what can be read of the slots.
func (s *Syncer) lookAtPublication(ctx context.Context, q querier, w wanted, notes slotNotes) (*publicationLook, error) {
	look := &publicationLook{}
	if err := s.readPublication(ctx, q, look); err != nil {
		return nil, err
	}
	if err := s.readSlotTables(ctx, q, look, notes); err != nil {
		return nil, err
	}
	if err := s.readPublicationTables(ctx, q, look, w, notes); err != nil {
		return nil, err
	}
	return look, nil
}

// readPublication reads the publication itself, and who keeps it.
//
// The mark names the control schema. Where it does not, being an earlier version's, or that schema
// is gone or has another name now, it is the one whose watermark table is in the publication:
// whoever follows a slot needs that. A publication that is kept from no control schema may be
// taken over.
func (s *Syncer) readPublication(ctx context.Context, q querier, look *publicationLook) error {
	var inside []string
	generated, schemas := "true", "'{}'::text[]"
	if s.serverVersion >= 180000 {
		generated = "p.pubgencols = 's'"
	}
	if s.serverVersion >= 150000 {
		schemas = "ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_publication_namespace pn JOIN pg_catalog.pg_namespace n ON n.oid = pn.pnnspid WHERE pn.pnpubid = p.oid)"
	}
	err := q.QueryRow(ctx, `SELECT p.oid, d.comment, pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
		p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot, p.puballtables, `+generated+`, `+schemas+`,
		ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_class k JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
			WHERE k.relname = $3 AND d.comment = $2 || $4 || n.nspname),
		ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_class k JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
			WHERE k.relname = $3 AND d.comment LIKE $2 || '%' AND EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
				WHERE r.prpubid = p.oid AND c.relnamespace = n.oid) ORDER BY 1)
		FROM pg_catalog.pg_publication p, LATERAL (SELECT coalesce(pg_catalog.obj_description(p.oid, 'pg_publication'), '') AS comment) d
		WHERE p.pubname = $1`, s.publication, publicationMark, slotTable, markSchema).
		Scan(&look.oid, &look.comment, &look.owned, &look.everyKind, &look.viaRoot, &look.all, &look.generated, &look.schemas, &look.keepers, &inside)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for publication %s: %w", s.publication, err)
	}
	marked := look.comment == publicationMark || strings.HasPrefix(look.comment, publicationMark+markSchema)
	if len(look.keepers) == 0 {
		look.keepers = inside
	}
	if marked && !look.all {
		look.ours = len(look.keepers) == 0 || slices.Contains(look.keepers, s.namespace)
	} else {
		look.keepers = nil
	}
	return nil
}

// slotNotes says what can be read of what the slots need.
type slotNotes byte

const (
	noNotes      slotNotes = iota // there is no slot table
	earlierNotes                  // it is of an earlier version, which did not note it
	tableNotes                    // it is of an earlier version, which noted tables without their columns
	currentNotes
)

// liveSlot gives a row where a slot s of the slot table is there. Of one on a standby it cannot be seen: it is there
// for as long as it is noted.
const liveSlot = `SELECT FROM pg_catalog.pg_replication_slots r WHERE r.slot_name = s.slot AND r.database = pg_catalog.current_database()
	UNION SELECT WHERE pg_catalog.to_jsonb(s)->>'on_standby' = 'true'`

// liveSlots are the other slots in the control schema that are there. One that was dropped needs
// nothing any more.
func (s *Syncer) liveSlots() string {
	return s.control(slotTable) + ` s JOIN LATERAL (` + liveSlot + `) live ON s.slot <> $1`
}

// readSlotTables reads what is noted of this slot, and whether something is not of others.
func (s *Syncer) readSlotTables(ctx context.Context, q querier, look *publicationLook, notes slotNotes) error {
	var err error
	switch notes {
	case earlierNotes:
		err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+s.liveSlots()+`)`, s.slot).Scan(&look.unknown)
	case tableNotes, currentNotes:
		columns := "NULL::text[]"
		if notes == currentNotes {
			columns = "n.published_columns"
		}
		err = q.QueryRow(ctx, `SELECT coalesce(n.publication, ''), n.published, `+columns+`, EXISTS (SELECT FROM `+s.liveSlots()+` WHERE s.published IS NULL)
			FROM (VALUES (1)) one LEFT JOIN `+s.control(slotTable)+` n ON n.slot = $1`, s.slot).
			Scan(&look.noted.publication, &look.noted.tables, &look.noted.columns, &look.unknown)
	}
	if err != nil {
		return fmt.Errorf("read which tables the slots need: %w", err)
	}
	return nil
}

// readPublicationTables reads the tables that the slots need and, where we may change the
// publication, all others that are in it.
func (s *Syncer) readPublicationTables(ctx context.Context, q querier, look *publicationLook, w wanted, notes slotNotes) error {
	filtered, list, above, listable := "false", "NULL::text", "", "a.attgenerated = ''"
	if s.serverVersion >= firstColumnLists {
		filtered, list = "r.prqual IS NOT NULL", "pg_catalog.array_to_string(r.prattrs::int2[], ' ')"
		above = "OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace pn WHERE pn.pnpubid = $3 AND pn.pnnspid = ac.relnamespace)"
	}
	if s.serverVersion >= 180000 {
		listable = "a.attgenerated IN ('', 's')"
	}
	others, since, made, members := "SELECT NULL::oid AS oid, NULL::text AS columns WHERE false AND $1 <> $2", "coalesce(r.oid, 0)", "false", ""
	switch notes {
	case tableNotes:
		others = "SELECT u.oid, NULL::text AS columns FROM " + s.liveSlots() + ", pg_catalog.unnest(s.published) u(oid) WHERE s.publication = $2"
	case currentNotes:
		others = "SELECT u.oid, (SELECT pg_catalog.substr(e, pg_catalog.strpos(e, ' ')) FROM pg_catalog.unnest(s.published_columns) e WHERE pg_catalog.split_part(e, ' ', 1) = u.oid::text) AS columns FROM " +
			s.liveSlots() + ", pg_catalog.unnest(s.published) u(oid) WHERE s.publication = $2"
		since, made, members = "coalesce(m.since, r.oid, 0)", "m.member IS NOT NULL", "LEFT JOIN "+s.control(memberTable)+" m ON m.member = r.oid"
	}
	var kept []uint32
	if w.noted && look.noted.publication == s.publication {
		kept = look.noted.tables
	}
	// Old rows carry what the identities of partitions have, whose columns may have other numbers.
	rows, err := q.Query(ctx, `WITH named AS (SELECT t.name, coalesce(pg_catalog.to_regclass(t.name)::oid, 0::oid) AS oid FROM pg_catalog.unnest($4::text[]) t(name)),
		t AS (SELECT t.oid, pg_catalog.array_agg(t.name) FILTER (WHERE t.name IS NOT NULL) AS names, bool_or(t.own) AS own, bool_or(t.other) AS other, bool_or(t.kept) AS kept,
				coalesce(bool_or(t.columns IS NULL) FILTER (WHERE t.other), false) AS others_all, coalesce(pg_catalog.string_agg(t.columns, ' ') FILTER (WHERE t.other), '') AS others_columns
			FROM (SELECT oid, name, true AS own, false AS other, false AS kept, NULL::text AS columns FROM named
				UNION ALL SELECT oid, NULL, true, false, true, NULL FROM pg_catalog.unnest($5::oid[]) k(oid)
				UNION ALL SELECT oid, NULL, false, true, false, o.columns FROM (`+others+`) o
				UNION ALL SELECT prrelid, NULL, false, false, false, NULL FROM pg_catalog.pg_publication_rel WHERE prpubid = $3 AND $6) t
			GROUP BY t.oid, CASE WHEN t.oid = 0 THEN t.name END)
		SELECT coalesce(c.oid, 0), t.names, coalesce(n.nspname, ''), coalesce(c.relname, ''), coalesce(c.relkind = 'p', false), t.own, t.other,
			t.kept, t.others_all, t.others_columns, col.numbers, col.names, col.quoted, col.generated, col.listable,
			coalesce(ident.keys, ''), coalesce(ident.unlistable, false),
			coalesce(r.oid, 0), `+since+`, `+made+`, `+filtered+`, `+list+`,
			coalesce(CASE WHEN c.relispartition AND t.own THEN (SELECT pg_catalog.format('%I.%I', an.nspname, ac.relname)
				FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY a(oid, place)
				JOIN pg_catalog.pg_class ac ON ac.oid = a.oid JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace
				WHERE a.oid <> c.oid AND ($7 OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel ar WHERE ar.prpubid = $3 AND ar.prrelid = a.oid) `+above+`
					OR $6 AND EXISTS (SELECT FROM t o WHERE o.oid = a.oid AND (o.own OR o.other)))
				ORDER BY a.place DESC LIMIT 1) END, '')
		FROM t LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = t.oid
		LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(a.attnum ORDER BY a.attnum) AS numbers, pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS names, pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) ORDER BY a.attnum) AS quoted,
				pg_catalog.array_agg(a.attgenerated <> '' ORDER BY a.attnum) AS generated, pg_catalog.array_agg(`+listable+` ORDER BY a.attnum) AS listable
			FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.own) col ON true
		LEFT JOIN LATERAL (WITH RECURSIVE leaf(oid) AS (SELECT c.oid WHERE t.own
				UNION ALL SELECT i.inhrelid FROM leaf JOIN pg_catalog.pg_inherits i ON i.inhparent = leaf.oid JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid AND p.relispartition)
			SELECT (SELECT pg_catalog.string_agg(DISTINCT here.attnum::text, ' ') FROM leaf JOIN pg_catalog.pg_index i ON i.indrelid = leaf.oid AND i.indisunique
					CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
					JOIN pg_catalog.pg_attribute a ON a.attrelid = leaf.oid AND a.attnum = k.attnum AND a.attnum > 0
					JOIN pg_catalog.pg_attribute here ON here.attrelid = c.oid AND here.attname = a.attname AND here.attnum > 0 WHERE k.place <= i.indnkeyatts) AS keys,
				EXISTS (SELECT FROM leaf JOIN pg_catalog.pg_class p ON p.oid = leaf.oid WHERE p.relreplident = 'f')
				OR EXISTS (SELECT FROM leaf JOIN pg_catalog.pg_index i ON i.indrelid = leaf.oid AND (i.indisprimary OR i.indisreplident)
					JOIN pg_catalog.pg_attribute a ON a.attrelid = leaf.oid AND a.attnum = ANY (i.indkey::int2[]) AND NOT `+listable+`) AS unlistable) ident ON true
		LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = $3 AND r.prrelid = c.oid `+members+` ORDER BY c.oid, t.names`,
		s.slot, s.publication, look.oid, w.names(), kept, look.ours, look.all)
	if err != nil {
		return fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	var wrong []*SetupError
	for rows.Next() {
		t, asked, err := s.scanTable(rows, look, w)
		if err != nil {
			rows.Close()
			if setup, ok := errors.AsType[*SetupError](err); ok {
				wrong = append(wrong, setup)
				break
			}
			return fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
		}
		switch {
		case t.oid != 0:
			look.tables = append(look.tables, t)
		case len(asked) > 0:
			wrong = append(wrong, &SetupError{Text: fmt.Sprintf("table %s does not exist", asked[0]), Hint: "name an existing table"})
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	if len(wrong) > 0 {
		return wrong[0]
	}
	return nil
}

// scanTable reads a row of what readPublicationTables asks: a table, whose oid is 0 where there is
// none, and the names by which it was asked for. One that was needed and is gone is needed no more.
// Its error is a [*SetupError] where a column is asked for that the table does not have.
func (s *Syncer) scanTable(rows pgx.Rows, look *publicationLook, w wanted) (t publicationTable, asked []string, err error) {
	var schema, name, keys, othersColumns string
	var list *string
	var kept, othersAll bool
	var numbers []int16
	var names, quoted []string
	var generated, listable []bool
	if err := rows.Scan(&t.oid, &asked, &schema, &name, &t.partitioned, &t.own, &t.other, &kept, &othersAll, &othersColumns, &numbers, &names, &quoted, &generated, &listable,
		&keys, &t.unlistable, &t.member, &t.since, &t.made, &t.filtered, &list, &t.under); err != nil || t.oid == 0 {
		return t, asked, err
	}
	t.name, t.inSchema = pgx.Identifier{schema, name}.Sanitize(), slices.Contains(look.schemas, schema)
	if t.keys, err = parseNumbers(keys); err != nil {
		return t, asked, err
	}
	if list != nil {
		if t.list, err = parseNumbers(*list); err != nil {
			return t, asked, err
		}
	}
	for i, number := range numbers {
		t.columns = append(t.columns, publicationColumn{number: number, name: quoted[i], generated: generated[i], listable: listable[i]})
	}
	for _, needed := range w.tables {
		if !slices.Contains(asked, needed.name) {
			continue
		}
		t.ownNeed.add(needed.columns == nil)
		for _, column := range needed.columns {
			i := slices.Index(names, column)
			if i < 0 {
				return t, asked, &SetupError{Text: fmt.Sprintf("table %s has no column %s", needed.name, quoteIdent(column)), Hint: "name an existing column"}
			}
			t.ownNeed.add(false, numbers[i])
		}
	}
	if kept {
		noted, err := notedNeed(look.noted.columns, t.oid)
		if err != nil {
			return t, asked, err
		}
		t.ownNeed.add(noted.all, noted.numbers...)
	}
	others, err := parseNumbers(othersColumns)
	t.need.add(t.ownNeed.all || othersAll, slices.Concat(t.ownNeed.numbers, others)...)
	return t, asked, err
}

// problems returns why the publication cannot be used before somebody has changed it. Where it is
// ours we see to most of that. unmade are tables that it has to have and that are not there yet.
func (s *Syncer) problems(look *publicationLook, unmade []string) (wrong []*SetupError) {
	name := quoteIdent(s.publication)
	refuse := func(hint, text string, args ...any) {
		wrong = append(wrong, &SetupError{Text: "publication " + s.publication + " " + fmt.Sprintf(text, args...), Hint: hint})
	}
	if len(look.keepers) > 0 && !look.ours {
		refuse(fmt.Sprintf("choose another name for the publication here, or control schema %s for both", look.keepers[0]),
			"is kept from control schema %s, which knows nothing of the tables that are needed here: it would take them out", look.keepers[0])
		return wrong
	}
	for _, t := range look.tables {
		// One of ours has this option, or gets it.
		if t.own && t.under != "" && (look.viaRoot || look.ours) {
			refuse(fmt.Sprintf("name the table %s, or choose another publication", t.under), "gives changes of %s under the name of %s", t.name, t.under)
		}
	}
	if look.ours {
		return wrong
	}
	if !look.everyKind {
		refuse(fmt.Sprintf("ALTER PUBLICATION %s SET (publish = %s);", name, everyKind), "leaves out some kinds of change")
	}
	var partitioned, missing []string
	for i := range look.tables {
		t := &look.tables[i]
		if !t.own {
			continue
		}
		if t.partitioned && !look.viaRoot {
			partitioned = append(partitioned, t.name)
		}
		if !look.covered(t) {
			missing = append(missing, t.name)
		}
	}
	if len(partitioned) > 0 {
		refuse(fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", name), "gives changes of %s under the names of partitions", strings.Join(partitioned, ", "))
	}
	for _, t := range look.tables {
		// A table that is there with its schema, too, is there without a condition.
		putRight := fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE ONLY %[2]s; ALTER PUBLICATION %[1]s ADD TABLE ONLY %[2]s;", name, t.name)
		if t.own && t.filtered && !t.inSchema {
			refuse(putRight, "has a row filter on %s, so that some changes would be missing", t.name)
		}
		if leftOut := t.leftOut(); t.own && len(leftOut) > 0 {
			refuse(putRight, "has a column list on %s that leaves out %s, so that values would be missing", t.name, strings.Join(leftOut, ", "))
		}
	}
	hint := ""
	if len(unmade) > 0 { // so that the hint can be done at all
		hint = strings.Join(s.watermarkStatements(), "\n") + "\n"
	}
	if missing = append(missing, unmade...); len(missing) > 0 {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("publication %s, which was not made by this program, lacks %s", s.publication, strings.Join(missing, ", ")),
			Hint: hint + fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s;", name, only(missing))})
	}
	return wrong
}

// everyKind is the value of the option publish.
const everyKind = "'insert, update, delete, truncate'"

// only lists tables, as a publication is given them: what inherits from a table is another one,
// whose rows nobody asked for, and of which Postgres would refuse an update if it had no key.
func only(tables []string) string { return "ONLY " + strings.Join(tables, ", ONLY ") }

// A publicationChange is what makes of the publication what it has to be.
type publicationChange struct {
	options  []string // to be set
	schemas  []string // taken out, of which all tables were in it
	added    []string // tables, by their quoted names
	removed  []string // which no slot needs
	again    []string // taken out and put in, as changes of them were missing
	relisted []string // taken out and put in with other columns; no change is missing

	lists    map[string]string // by table that is put in: its columns, as a statement has them
	made     []madeMembership  // what is to be noted of that
	columns  []string          // which columns tables are published with from then on
	putRight []string          // what was wrong, as it is told
	mark     bool              // the comment is not the one that it should be
	noted    bool              // what this slot needs is noted
}

// change returns what has to be done. Where it is not ours that is nothing but a note.
//
// Tables are added and dropped by themselves, never set as a whole: what stays keeps its row in
// pg_publication_rel, by which it is known since when its changes have been there. What was
// filtered, or published without some kind of change, gets another row there, as changes are
// missing. So does what somebody gave a list of columns. Where we change a list ourselves that is
// noted, see memberTable.
func (s *Syncer) change(look *publicationLook, extra extras) publicationChange {
	own := look.own(s.publication)
	c := publicationChange{noted: own.equal(look.noted), lists: make(map[string]string)}
	if !look.ours {
		return c
	}
	c.mark = look.comment != s.mark() && look.owned
	if !look.everyKind {
		c.options = append(c.options, "publish = "+everyKind)
		c.putRight = append(c.putRight, "kinds of change that were left out")
	}
	if !look.viaRoot {
		c.options = append(c.options, "publish_via_partition_root = true")
		c.putRight = append(c.putRight, "changes under the names of partitions")
	}
	if !look.generated {
		c.options = append(c.options, "publish_generated_columns = stored")
		c.putRight = append(c.putRight, "generated columns that were left out")
	}
	removes := extra == removeExtras && !look.unknown
	if removes {
		for _, schema := range look.schemas {
			c.schemas = append(c.schemas, quoteIdent(schema))
			c.putRight = append(c.putRight, "all tables in schema "+schema)
		}
	}
	for i := range look.tables {
		t := &look.tables[i]
		wanted := s.wantedList(look, t, extra)
		put := func(into *[]string, since uint32) {
			*into = append(*into, t.name)
			c.lists[t.name] = t.columnList(wanted)
			if wanted != nil || since != 0 {
				c.made = append(c.made, madeMembership{t.oid, since})
			}
		}
		switch {
		case t.member == 0 && t.own:
			put(&c.added, 0)
		case t.member == 0: // whose slot needs it will see to it
		case !t.own && !t.other && removes:
			c.removed = append(c.removed, t.name)
		case t.own && (t.filtered || t.list != nil && !t.made):
			put(&c.again, 0)
			c.putRight = append(c.putRight, "a row filter or column list on "+t.name)
		case !look.everyKind, !look.viaRoot && t.partitioned:
			put(&c.again, 0)
		case t.own && !t.busy && ((wanted == nil) != (t.list == nil) || !slices.Equal(wanted, t.list)):
			put(&c.relisted, t.since)
			if wanted == nil {
				c.columns = append(c.columns, "all columns of "+t.name)
			} else {
				c.columns = append(c.columns, "of "+t.name+" only"+c.lists[t.name])
			}
		}
	}
	return c
}

// extras says what becomes of tables, and columns, that no slot is known to need.
type extras byte

const (
	keepExtras   extras = iota // a slot that is just being made may need them
	removeExtras               // they are taken out of the publication
)

// statements are what does it, in order.
func (c *publicationChange) statements(publication string) (list []string) {
	alter := "ALTER PUBLICATION " + quoteIdent(publication) + " "
	if len(c.options) > 0 {
		list = append(list, alter+"SET ("+strings.Join(c.options, ", ")+")")
	}
	if len(c.schemas) > 0 {
		list = append(list, alter+"DROP TABLES IN SCHEMA "+strings.Join(c.schemas, ", "))
	}
	if drop := slices.Concat(c.removed, c.again, c.relisted); len(drop) > 0 {
		list = append(list, alter+"DROP TABLE "+only(drop))
	}
	if add := slices.Concat(c.added, c.again, c.relisted); len(add) > 0 {
		for i, name := range add {
			add[i] = name + c.lists[name]
		}
		list = append(list, alter+"ADD TABLE "+only(add))
	}
	return list
}

// sentence tells what is done, "" if it is only a note.
func (c *publicationChange) sentence(publication string) string {
	var parts []string
	if len(c.added)+len(c.removed) > 0 {
		parts = append(parts, fmt.Sprintf("add %d tables, remove %d", len(c.added), len(c.removed)))
	}
	if len(c.putRight) > 0 {
		parts = append(parts, "put right "+strings.Join(c.putRight, ", "))
	}
	if len(c.columns) > 0 {
		parts = append(parts, "publish "+strings.Join(c.columns, ", "))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("change publication %s: %s", publication, strings.Join(parts, "; "))
}
