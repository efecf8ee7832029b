package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// An Inspection is what [NewSyncer] would find in the database, and do there.
type Inspection struct {
	ServerVersion  int // as in server_version_num: 170005
	Database, Role string
	System         string // the database system's identifier; "" if the role may not ask
	Timeline       int32
	Generation     string        // of the slot, see [Syncer.Generation]; "" if it has to be made
	WALEnd         pglogrepl.LSN // where the log ended

	Slot SlotInspection

	// Wrong is everything that keeps a Syncer from working until somebody fixes it.
	Wrong []*SetupError

	// Lost is a [*SlotLostError] or a [*ClusterChangedError] where changes are missing,
	// so that only [WithNewSlot] can begin again.
	Lost error

	// Steps is what would be made or changed, in order; none when all is there.
	Steps []string
}

// A SlotInspection is what the server says of the slot.
type SlotInspection struct {
	Exists    bool
	Active    bool          // a process follows it at the moment
	Confirmed pglogrepl.LSN // up to where everything is stored
	Retained  int64         // bytes of the log that the server keeps for it
}

// Inspect takes the options of [NewSyncer], looks at the database and changes nothing in
// it. Tables of [ForTables] have to exist. Its error says why the database cannot be asked;
// what it found wrong is in the Inspection, all of it.
func Inspect(ctx context.Context, opts ...SyncerOpt) (*Inspection, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	s, err := openSyncer(opts)
	if err != nil {
		return nil, err
	}
	defer s.db.Close()
	i := &inspector{Syncer: s, found: Inspection{Role: s.config.User}}
	if err := i.inspectServer(ctx); err != nil {
		return nil, err
	}
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if err := i.inspectControl(ctx, conn); err != nil {
			return err
		}
		if err := i.inspectPublication(ctx, conn); err != nil {
			return err
		}
		return i.inspectSlot(ctx, conn)
	})
	if err != nil {
		return nil, err
	}
	return &i.found, nil
}

// An inspector fills in an Inspection in the order in which setup makes things.
type inspector struct {
	*Syncer
	found             Inspection
	watermarks, notes bool            // the two tables are there, and can be used
	partitioned       map[string]bool // tables that the publication gives under other names
	mayCreate         bool            // objects in the database: schemas, publications
}

func (i *inspector) wrong(hint, format string, args ...any) {
	i.found.Wrong = append(i.found.Wrong, &SetupError{Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (i *inspector) step(format string, args ...any) {
	i.found.Steps = append(i.found.Steps, fmt.Sprintf(format, args...))
}

func (i *inspector) inspectServer(ctx context.Context) error {
	wrong, err := i.readServer(ctx)
	if err != nil {
		return err
	}
	i.found.Wrong = append(i.found.Wrong, wrong...)
	var refused *SetupError
	if err := i.identify(ctx); errors.As(err, &refused) {
		i.found.Wrong = append(i.found.Wrong, refused)
	} else if err != nil {
		return err
	}
	i.found.ServerVersion, i.found.Database, i.found.System, i.found.Timeline = i.serverVersion, i.dbName, i.system, i.timeline
	return nil
}

// inspectControl inspects the control schema and its tables. Its error is a [*NewerSchemaError]
// where a later version has changed them.
func (i *inspector) inspectControl(ctx context.Context, conn *pgx.Conn) error {
	var schema, usage, create, readWatermarks, notes, readNotes, current, readVersions bool
	err := conn.QueryRow(ctx, `SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
		n.oid IS NOT NULL, coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false), coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false),
		w.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(w.oid, 'SELECT') AND pg_catalog.has_table_privilege(w.oid, 'INSERT') AND pg_catalog.has_table_privilege(w.oid, 'UPDATE'), false),
		s.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(s.oid, 'SELECT') AND pg_catalog.has_table_privilege(s.oid, 'INSERT') AND pg_catalog.has_table_privilege(s.oid, 'UPDATE'), false),
		EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.oid AND a.attname = 'lost'),
		v.oid IS NULL OR pg_catalog.has_table_privilege(v.oid, 'SELECT')
		FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1
		LEFT JOIN pg_catalog.pg_class w ON w.relnamespace = n.oid AND w.relname = $2
		LEFT JOIN pg_catalog.pg_class s ON s.relnamespace = n.oid AND s.relname = $3
		LEFT JOIN pg_catalog.pg_class v ON v.relnamespace = n.oid AND v.relname = $4`, i.namespace, i.wmTable, slotTable, versionTable).
		Scan(&i.mayCreate, &schema, &usage, &create, &i.watermarks, &readWatermarks, &notes, &readNotes, &current, &readVersions)
	if err != nil {
		return fmt.Errorf("look for control schema %s: %w", i.namespace, err)
	}
	part := i.schemaPart()
	var pending []string
	if usage && readVersions {
		if pending, err = part.Pending(ctx, conn); err != nil {
			return err
		}
	}
	role, name := quoteIdent(i.found.Role), quoteIdent(i.namespace)
	switch {
	case !schema && !i.mayCreate:
		i.wrong(fmt.Sprintf("CREATE SCHEMA %s AUTHORIZATION %s;", name, role), "role %s may not make control schema %s", i.found.Role, i.namespace)
	case !schema:
		i.step("make control schema %s", i.namespace)
	case !usage || !create && !(i.watermarks && len(pending) == 0):
		i.wrong(fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s;", name, role), "role %s may not make its tables in control schema %s", i.found.Role, i.namespace)
	}
	for _, t := range []struct {
		name        string
		there, used bool
	}{{i.wmTable, i.watermarks, readWatermarks}, {slotTable, notes, readNotes}} {
		switch {
		case !t.there:
			i.step("make table %s.%s", i.namespace, t.name)
		case !t.used:
			i.wrong(fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", i.control(t.name), role), "role %s may not use table %s.%s", i.found.Role, i.namespace, t.name)
		}
	}
	if !readVersions {
		i.wrong(fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", part.table(), role), "role %s may not use table %s.%s", i.found.Role, i.namespace, versionTable)
	}
	if notes { // otherwise the one step is to make it
		i.found.Steps = append(i.found.Steps, pending...)
	}
	// A slot table without that column is of an early version, and is read when it was migrated.
	i.notes = notes && readNotes && usage && current
	return nil
}

// inspectPublication inspects the publication.
func (i *inspector) inspectPublication(ctx context.Context, conn *pgx.Conn) error {
	pub, err := i.readPublication(ctx, conn)
	if err != nil {
		return err
	}
	var tables []string
	for _, name := range i.tables {
		quoted, err := quoteTable(name)
		if err != nil {
			return err
		}
		tables = append(tables, quoted)
	}
	watermarks := i.control(i.wmTable)
	if i.watermarks {
		tables = append(tables, watermarks)
	}
	if !pub.exists {
		all := tables
		if !i.watermarks {
			all = append(all[:len(all):len(all)], watermarks)
		}
		i.step("make publication %s for %d tables", i.publication, len(all))
		return i.mayPublish(ctx, conn, tables, true, i.newPublication(strings.Join(all, ", ")))
	}
	if !pub.complete {
		i.found.Wrong = append(i.found.Wrong, i.incompletePublication())
	}
	if !pub.ours {
		if err := i.inspectForeignPublication(ctx, conn, pub, tables); err != nil {
			return err
		}
	}
	missing, extra, err := i.comparePublication(ctx, conn, tables)
	if err != nil {
		return err
	}
	if !pub.viaRoot {
		// It lists partitions where their roots were looked for; that is reported.
		missing = slices.DeleteFunc(missing, func(name string) bool { return i.partitioned[name] })
	}
	if !i.watermarks {
		missing = append(missing, watermarks)
	}
	if len(missing)+len(extra) == 0 {
		return nil
	}
	switch {
	case pub.ours && len(i.tables) > 0:
		i.step("change publication %s: add %d tables, remove %d", i.publication, len(missing), len(extra))
		added := missing
		if !i.watermarks {
			added = added[:len(added)-1]
		}
		return i.mayPublish(ctx, conn, added, pub.owned,
			fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quoteIdent(i.publication), strings.Join(missing, ", ")))
	case len(missing) > 0:
		lacking := i.lackingPublication(missing)
		if !i.watermarks { // so that the hint can be done at all
			lacking.Hint = strings.Join(i.watermarkStatements(), "\n") + "\n" + lacking.Hint
		}
		i.found.Wrong = append(i.found.Wrong, lacking)
	}
	return nil
}

// inspectForeignPublication inspects what only a publication can have that no Syncer made.
func (i *inspector) inspectForeignPublication(ctx context.Context, conn *pgx.Conn, pub publicationState, tables []string) error {
	name := quoteIdent(i.publication)
	if !pub.viaRoot {
		rows, err := conn.Query(ctx, `SELECT t.name FROM pg_catalog.unnest($1::text[]) AS t(name)
			JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name) WHERE c.relkind = 'p'`, tables)
		if err != nil {
			return fmt.Errorf("look for partitioned tables: %w", err)
		}
		roots, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("look for partitioned tables: %w", err)
		}
		i.partitioned = make(map[string]bool)
		for _, root := range roots {
			i.partitioned[root] = true
		}
		if len(roots) > 0 {
			i.wrong(fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", name),
				"publication %s gives changes of %s under the names of partitions", i.publication, strings.Join(roots, ", "))
		}
	}
	if i.serverVersion < 150000 {
		return nil // it has no filters
	}
	rows, err := conn.Query(ctx, `SELECT pg_catalog.format('%I.%I', schemaname, tablename) FROM pg_catalog.pg_publication_tables
		WHERE pubname = $1 AND rowfilter IS NOT NULL AND pg_catalog.to_regclass(pg_catalog.format('%I.%I', schemaname, tablename))
			IN (SELECT pg_catalog.to_regclass(t.name) FROM pg_catalog.unnest($2::text[]) AS t(name)) ORDER BY 1`, i.publication, tables)
	if err != nil {
		return fmt.Errorf("look for row filters of publication %s: %w", i.publication, err)
	}
	filtered, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for row filters of publication %s: %w", i.publication, err)
	}
	for _, table := range filtered {
		i.wrong(fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s;", name, table, name, table),
			"publication %s has a row filter on %s, so that some changes would be missing", i.publication, table)
	}
	return nil
}

// watermarkStatements make the watermark table for the role, run by somebody else.
func (i *inspector) watermarkStatements() []string {
	role := quoteIdent(i.found.Role)
	return []string{
		fmt.Sprintf("CREATE SCHEMA IF NOT EXISTS %s AUTHORIZATION %s;", quoteIdent(i.namespace), role),
		i.watermarkTable() + ";",
		fmt.Sprintf("ALTER TABLE %s OWNER TO %s;", i.control(i.wmTable), role),
	}
}

// mayPublish holds the role against what Postgres wants of who puts tables into a
// publication: to own them, and the publication, or to be able to make one.
func (i *inspector) mayPublish(ctx context.Context, conn *pgx.Conn, tables []string, owned bool, statement string) error {
	rows, err := conn.Query(ctx, `SELECT DISTINCT r.rolname, r.rolsuper
		FROM pg_catalog.unnest($1::text[]) AS t(name) JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
		JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1`, tables)
	if err != nil {
		return fmt.Errorf("read the owners of the tables: %w", err)
	}
	var owners []string
	var owner string
	var super, anySuper bool
	if _, err := pgx.ForEachRow(rows, []any{&owner, &super}, func() error {
		owners, anySuper = append(owners, quoteIdent(owner)), anySuper || super
		return nil
	}); err != nil {
		return fmt.Errorf("read the owners of the tables: %w", err)
	}
	creates := strings.HasPrefix(statement, "CREATE")
	if len(owners) == 0 && owned && (i.mayCreate || !creates) {
		return nil
	}

	byOthers := []string{statement + ";"}
	if !i.watermarks {
		byOthers = append(i.watermarkStatements(), byOthers...)
	}
	hint := "as a role that may:\n" + strings.Join(byOthers, "\n")
	if !anySuper { // a right that nobody should give away for this
		var grants []string
		if creates && !i.mayCreate {
			grants = append(grants, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", quoteIdent(i.found.Database), quoteIdent(i.found.Role)))
		}
		if len(owners) > 0 {
			grants = append(grants, fmt.Sprintf("GRANT %s TO %s;", strings.Join(owners, ", "), quoteIdent(i.found.Role)))
		}
		if !owned {
			grants = append(grants, fmt.Sprintf("ALTER PUBLICATION %s OWNER TO %s;", quoteIdent(i.publication), quoteIdent(i.found.Role)))
		}
		hint = strings.Join(grants, "\n") + "\nor, " + hint
	}
	verb := "change"
	if creates {
		verb = "make"
	}
	i.wrong(hint, "role %s may not %s publication %s: that takes CREATE on the database and the rights of the owner of each table", i.found.Role, verb, i.publication)
	return nil
}

// inspectSlot inspects the slot.
func (i *inspector) inspectSlot(ctx context.Context, conn *pgx.Conn) error {
	slot, err := i.readSlot(ctx, conn)
	if err != nil {
		return err
	}
	var end string
	var free, active bool
	err = conn.QueryRow(ctx, `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END::text,
		(SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) < pg_catalog.current_setting('max_replication_slots')::int,
		coalesce((SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1), false)`, i.slot).Scan(&end, &free, &active)
	if err == nil {
		i.found.WALEnd, err = pglogrepl.ParseLSN(end)
	}
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	i.found.Slot = SlotInspection{Exists: slot.exists, Active: active, Confirmed: slot.confirmed}
	if slot.exists && slot.confirmed > 0 && slot.confirmed < i.found.WALEnd {
		i.found.Slot.Retained = int64(i.found.WALEnd - slot.confirmed)
	}
	if slot.exists && (slot.plugin != "pgoutput" || slot.database != i.dbName) {
		i.found.Wrong = append(i.found.Wrong, i.foreignSlot(slot))
		return nil
	}
	if !slot.exists && !free {
		i.found.Wrong = append(i.found.Wrong, noFreeSlot(nil))
	}
	if i.notes && i.found.System != "" {
		known, err := i.readSlotRow(ctx, conn)
		if err != nil {
			return err
		}
		if i.found.Lost = i.judgeSlot(slot, known); i.found.Lost != nil {
			if i.newSlot {
				i.step("make slot %s anew", i.slot)
			}
			return nil
		}
		if known != nil {
			i.found.Generation = known.generation
		}
	}
	if !slot.exists {
		i.step("make slot %s", i.slot)
	}
	return nil
}
