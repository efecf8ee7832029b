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

// slotTables is what a slot needs: the tables, by their oids in ascending order, and in which
// publication.
type slotTables struct {
	publication string
	tables      []uint32
}

// A publicationTable is a table that is in the publication, or has to be.
type publicationTable struct {
	oid         uint32
	name        string // quoted, with its schema
	partitioned bool

	own   bool // this slot needs it
	other bool // another slot needs it

	member   uint32   // the oid of its row in pg_publication_rel; 0: there is none
	filtered bool     // by a condition, so that some rows are not published
	listed   bool     // only some columns are published
	leftOut  []string // columns that are not, quoted
	inSchema bool     // it is in the publication with its schema
	under    string   // the table above it that its changes are published under; "" where there is none
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
		}
	}
	return own
}

// A membership names the time for which tables have been in a publication: the oids of the
// publication and, by table, of its rows in pg_publication_rel. See [TableGeneration].
type membership struct {
	publication uint32
	tables      map[uint32]uint32
}

func (l *publicationLook) membership() membership {
	m := membership{publication: l.oid, tables: make(map[uint32]uint32)}
	for _, t := range l.tables {
		if t.own {
			m.tables[t.oid] = t.member
		}
	}
	return m
}

// wanted is what a look takes as the tables that this slot needs.
type wanted struct {
	tables []string // quoted names; each has to exist
	noted  bool     // and what is noted of the slot; nothing is taken out then
}

// wants returns what this Syncer was asked for, and its watermark table. What is noted stays where
// nobody has named any tables, and where another process follows the slot, which may be one with
// other tables: when that has ended Publish, or the next start, takes out what is needed no more.
func (s *Syncer) wants(ctx context.Context, q querier) (wanted, error) {
	slot, err := s.readSlot(ctx, q)
	return wanted{append(slices.Clone(s.tables), s.control(s.wmTable)), len(s.tables) == 0 || slot.active}, err
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
	currentNotes
)

// liveSlots are the other slots in the control schema that are there. One that was dropped needs
// nothing any more.
func (s *Syncer) liveSlots() string {
	return s.control(slotTable) + ` s JOIN pg_catalog.pg_replication_slots r ON r.slot_name = s.slot AND r.database = pg_catalog.current_database() AND s.slot <> $1`
}

// readSlotTables reads what is noted of this slot, and whether something is not of others.
func (s *Syncer) readSlotTables(ctx context.Context, q querier, look *publicationLook, notes slotNotes) error {
	var err error
	switch notes {
	case earlierNotes:
		err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+s.liveSlots()+`)`, s.slot).Scan(&look.unknown)
	case currentNotes:
		err = q.QueryRow(ctx, `SELECT coalesce(n.publication, ''), n.published, EXISTS (SELECT FROM `+s.liveSlots()+` WHERE s.published IS NULL)
			FROM (VALUES (1)) one LEFT JOIN `+s.control(slotTable)+` n ON n.slot = $1`, s.slot).
			Scan(&look.noted.publication, &look.noted.tables, &look.unknown)
	}
	if err != nil {
		return fmt.Errorf("read which tables the slots need: %w", err)
	}
	return nil
}

// readPublicationTables reads the tables that the slots need and, where we may change the
// publication, all others that are in it.
func (s *Syncer) readPublicationTables(ctx context.Context, q querier, look *publicationLook, w wanted, notes slotNotes) error {
	filtered, listed, leftOut, above := "false", "false", "NULL::text[]", ""
	if s.serverVersion >= 150000 {
		filtered, listed = "r.prqual IS NOT NULL", "r.prattrs IS NOT NULL"
		leftOut = `CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND NOT a.attnum = ANY (r.prattrs) ORDER BY a.attnum) END`
		above = "OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace pn WHERE pn.pnpubid = $3 AND pn.pnnspid = ac.relnamespace)"
	}
	others := "SELECT NULL::oid WHERE false AND $1 <> $2"
	if notes == currentNotes {
		others = "SELECT u.oid FROM " + s.liveSlots() + ", pg_catalog.unnest(s.published) u(oid) WHERE s.publication = $2"
	}
	var kept []uint32
	if w.noted && look.noted.publication == s.publication {
		kept = look.noted.tables
	}
	rows, err := q.Query(ctx, `WITH named AS (SELECT t.name, coalesce(pg_catalog.to_regclass(t.name)::oid, 0::oid) AS oid FROM pg_catalog.unnest($4::text[]) t(name)),
		t AS (SELECT t.oid, max(t.name) AS name, bool_or(t.own) AS own, bool_or(t.other) AS other
			FROM (SELECT oid, name, true AS own, false AS other FROM named
				UNION ALL SELECT oid, NULL, true, false FROM pg_catalog.unnest($5::oid[]) k(oid)
				UNION ALL SELECT oid, NULL, false, true FROM (`+others+`) o(oid)
				UNION ALL SELECT prrelid, NULL, false, false FROM pg_catalog.pg_publication_rel WHERE prpubid = $3 AND $6) t
			GROUP BY t.oid, CASE WHEN t.oid = 0 THEN t.name END)
		SELECT coalesce(c.oid, 0), coalesce(t.name, ''), coalesce(n.nspname, ''), coalesce(c.relname, ''), coalesce(c.relkind = 'p', false), t.own, t.other,
			coalesce(r.oid, 0), `+filtered+`, `+listed+`, `+leftOut+`,
			coalesce(CASE WHEN c.relispartition AND t.own THEN (SELECT pg_catalog.format('%I.%I', an.nspname, ac.relname)
				FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY a(oid, place)
				JOIN pg_catalog.pg_class ac ON ac.oid = a.oid JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace
				WHERE a.oid <> c.oid AND ($7 OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel ar WHERE ar.prpubid = $3 AND ar.prrelid = a.oid) `+above+`
					OR $6 AND EXISTS (SELECT FROM t o WHERE o.oid = a.oid AND (o.own OR o.other)))
				ORDER BY a.place DESC LIMIT 1) END, '')
		FROM t LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = t.oid
		LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = $3 AND r.prrelid = c.oid ORDER BY c.oid, t.name`,
		s.slot, s.publication, look.oid, w.tables, kept, look.ours, look.all)
	if err != nil {
		return fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	var t publicationTable
	var asked, schema, name string
	var gone []string
	if _, err := pgx.ForEachRow(rows, []any{&t.oid, &asked, &schema, &name, &t.partitioned, &t.own, &t.other, &t.member, &t.filtered, &t.listed, &t.leftOut, &t.under}, func() error {
		switch {
		case t.oid != 0:
			t.name, t.inSchema = pgx.Identifier{schema, name}.Sanitize(), slices.Contains(look.schemas, schema)
			found := t
			found.leftOut = slices.Clone(t.leftOut)
			look.tables = append(look.tables, found)
		case asked != "":
			gone = append(gone, asked)
		}
		return nil // a table that was needed and is gone is needed no more
	}); err != nil {
		return fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	if len(gone) > 0 {
		return &SetupError{Text: fmt.Sprintf("table %s does not exist", gone[0]), Hint: "name an existing table"}
	}
	return nil
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
		if t.own && len(t.leftOut) > 0 {
			refuse(putRight, "has a column list on %s that leaves out %s, so that values would be missing", t.name, strings.Join(t.leftOut, ", "))
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
	putRight []string // what was wrong, as it is told
	mark     bool     // the comment is not the one that it should be
	noted    bool     // what this slot needs is noted
}

// change returns what has to be done. Where it is not ours that is nothing but a note.
//
// Tables are added and dropped by themselves, never set as a whole: what stays keeps its row in
// pg_publication_rel, by which it is known since when its changes have been there. What was
// filtered, or published without some kind of change, gets another row there, as changes are
// missing.
func (s *Syncer) change(look *publicationLook, extra extras) publicationChange {
	own := look.own(s.publication)
	c := publicationChange{noted: own.publication == look.noted.publication && slices.Equal(own.tables, look.noted.tables)}
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
	for _, t := range look.tables {
		switch {
		case t.member == 0 && t.own:
			c.added = append(c.added, t.name)
		case t.member == 0: // whose slot needs it will see to it
		case !t.own && !t.other && removes:
			c.removed = append(c.removed, t.name)
		case t.own && (t.filtered || t.listed):
			c.again = append(c.again, t.name)
			c.putRight = append(c.putRight, "a row filter or column list on "+t.name)
		case !look.everyKind, !look.viaRoot && t.partitioned:
			c.again = append(c.again, t.name)
		}
	}
	return c
}

// extras says what becomes of tables that no slot is known to need.
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
	if drop := slices.Concat(c.removed, c.again); len(drop) > 0 {
		list = append(list, alter+"DROP TABLE "+only(drop))
	}
	if add := slices.Concat(c.added, c.again); len(add) > 0 {
		list = append(list, alter+"ADD TABLE "+only(add))
	}
	return list
}

// says tells what is done, "" if it is only a note.
func (c *publicationChange) says(publication string) string {
	var parts []string
	if len(c.added)+len(c.removed) > 0 {
		parts = append(parts, fmt.Sprintf("add %d tables, remove %d", len(c.added), len(c.removed)))
	}
	if len(c.putRight) > 0 {
		parts = append(parts, "put right "+strings.Join(c.putRight, ", "))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("change publication %s: %s", publication, strings.Join(parts, "; "))
}
