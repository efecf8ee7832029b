package dbsync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// CatalogPrefix is the prefix of the messages by which the event triggers of
// [WithEventTriggers] announce a change of the catalog. Their content is the command tag:
// ALTER TABLE. Whoever may connect to the database may write such a message, so it is a reason to
// look at the catalog, and proves nothing.
const CatalogPrefix = "dbsync.catalog"

// WithEventTriggers has setup make event triggers in the database, which write a message into
// the log in each transaction that creates, alters or drops something, and has the stream bring
// the messages of [pg_logical_emit_message], these and anybody else's, to a
// [LogicalMessageHandler]. Without it the stream brings none, and setup removes the event
// triggers when no other slot of the control schema wants them.
//
// Postgres lets superusers alone make event triggers. Where the role is none, [Inspect] says
// which statements a superuser runs once; after that nothing is left to be made.
//
// TRUNCATE, VACUUM FULL and CLUSTER are no commands of which event triggers are told.
//
// [pg_logical_emit_message]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
func WithEventTriggers() SyncerOpt {
	return func(s *Syncer) error {
		s.eventTriggers = true
		return nil
	}
}

// announceFunction is called by the event triggers, in the control schema. It is by this
// function that event triggers are known as ours, whatever their names are.
const announceFunction = "dbsync_announce"

// announceEvents are those on which there is an event trigger. What is dropped is told with
// sql_drop only, so that a temporary table can be told from others. Commands with table_rewrite
// are all told with ddl_command_end, too.
var announceEvents = []string{"ddl_command_end", "sql_drop"}

// announceBody is the function's. Its first duty is to do no harm: whatever happens in it, the
// command that fired it goes on. What it fails to announce is in the server's log.
//
//   - Temporary objects are not announced, as sessions may make temporary tables all the time; nor is
//     what lies in the schemas of the search path, which are pg_catalog and the control schema, nor
//     each of the many commands of an extension's script, which the extension's own follows.
//   - All that may fail is in a block of its own, but for the message: Postgres orders what was
//     written in a subtransaction, which such a block is, by where it ends, and the message could
//     come after the change that follows it. What the message may fail for is a right, which is looked at before.
//   - The message is transactional. It comes in its place, and not at all if the command is rolled back.
//   - Below wal_level logical nobody could read it.
//   - A cancelled statement is not caught by OTHERS, and shall not be.
const announceBody = `
DECLARE
	matters boolean := true;
	may boolean := false;
BEGIN
	IF pg_catalog.current_setting('wal_level') <> 'logical'
		OR TG_TAG IN ('GRANT', 'REVOKE', 'COMMENT', 'REFRESH MATERIALIZED VIEW', 'REINDEX')
		OR TG_EVENT = 'ddl_command_end' AND TG_TAG LIKE 'DROP %' THEN
		RETURN;
	END IF;
	BEGIN
		IF TG_EVENT = 'sql_drop' THEN
			matters := EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d WHERE d.original AND NOT d.is_temporary
				AND coalesce(d.schema_name <> ALL (pg_catalog.current_schemas(false)::text[]), true));
		ELSE
			matters := EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() c WHERE NOT c.in_extension
				AND coalesce(c.schema_name <> 'pg_temp' AND c.schema_name <> ALL (pg_catalog.current_schemas(false)::text[]), true));
		END IF;
		IF matters THEN
			may := pg_catalog.bool_and(pg_catalog.has_function_privilege(f.oid, 'EXECUTE'))
				FROM pg_catalog.pg_proc f WHERE f.proname = 'pg_logical_emit_message' AND f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace;
		END IF;
	EXCEPTION WHEN OTHERS THEN
		RAISE LOG '` + announceFunction + ` does not know what % did: %', TG_TAG, SQLERRM;
	END;
	IF NOT matters THEN
		RETURN;
	ELSIF may THEN
		PERFORM pg_catalog.pg_logical_emit_message(true, '` + CatalogPrefix + `', TG_TAG);
	ELSE
		RAISE LOG '` + announceFunction + ` has not announced %: it may not, or could not find out', TG_TAG;
	END IF;
END
`

// announceStatement makes the function, or brings it to the form of this version.
//
// It has the rights of its owner, and not of whoever runs a command: an event trigger that runs
// with the rights of its caller hands the rights of each superuser who alters a table to
// whoever may replace the function. Nobody needs a right on it, or on
// pg_logical_emit_message, for their commands to go on. Its search path is fixed, and all that it
// names is qualified.
//
// It is replaced and never dropped: a session that is at the end of a command would not find what it
// is about to call, and the command would fail.
func (s *Syncer) announceStatement() string {
	return "CREATE OR REPLACE FUNCTION " + s.control(announceFunction) + "() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, " +
		quoteIdent(s.namespace) + ", pg_temp AS $dbsync$" + announceBody + "$dbsync$"
}

// triggerName returns the name of the event trigger on an event. These have no schema, so the name
// is made of that of the control schema.
func (s *Syncer) triggerName(event string) string {
	const longest = 63 // bytes of a name
	name := s.namespace + "_" + event
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(s.namespace))
	rest := "_" + hex.EncodeToString(sum[:4]) + "_" + event
	cut := longest - len(rest)
	for !utf8.RuneStart(s.namespace[cut]) {
		cut--
	}
	return s.namespace[:cut] + rest
}

// eventTriggerState is what there is of the event triggers.
type eventTriggerState struct {
	super    bool // the role may make event triggers
	function bool // the function is there
	current  bool // in the form of this version
	owned    bool // by this role itself
	inUse    bool // another slot that exists wants them

	mayReplace bool // the role may do that with the function
	mayDrop    bool // the role may do that with each event trigger

	names   map[string]string // by event
	enabled map[string]bool   // by event: for all sessions
	taken   []string          // names of ours that somebody else has
}

// readEventTriggers looks for them. White space of the function does not count: whoever runs a hint
// may have copied it from where it is indented.
func (p *plan) readEventTriggers(ctx context.Context, conn *pgx.Conn) (st eventTriggerState, err error) {
	s := p.s
	var function uint32
	err = conn.QueryRow(ctx, `SELECT r.rolsuper, coalesce(f.oid, 0),
		coalesce(pg_catalog.btrim(pg_catalog.regexp_replace(f.prosrc, '\s+', ' ', 'g')) = $3 AND f.prosecdef AND l.lanname = 'plpgsql'
			AND f.proconfig = ARRAY['search_path=pg_catalog, ' || pg_catalog.quote_ident($1::text) || ', pg_temp'], false),
		coalesce(f.proowner = r.oid, false), coalesce(pg_catalog.pg_has_role(f.proowner, 'USAGE'), false)
		FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1
		LEFT JOIN pg_catalog.pg_proc f ON f.pronamespace = n.oid AND f.proname = $2 AND f.pronargs = 0
		LEFT JOIN pg_catalog.pg_language l ON l.oid = f.prolang
		WHERE r.rolname = current_user`, s.namespace, announceFunction, strings.Join(strings.Fields(announceBody), " ")).Scan(&st.super, &function, &st.current, &st.owned, &st.mayReplace)
	if err != nil {
		return st, fmt.Errorf("look for function %s.%s: %w", s.namespace, announceFunction, err)
	}
	st.function = function != 0
	if p.state.readable && p.state.wishes {
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+s.control(slotTable)+` s, LATERAL (`+liveSlot+`) live WHERE s.event_triggers AND s.slot <> $1)`, s.slot).Scan(&st.inUse)
		if err != nil {
			return st, fmt.Errorf("look which slots want event triggers: %w", err)
		}
	}

	var names []string
	for _, event := range announceEvents {
		names = append(names, s.triggerName(event))
	}
	rows, err := conn.Query(ctx, `SELECT evtname, evtevent, evtfoid = $1 AND evttags IS NULL, evtenabled = 'A', pg_catalog.pg_has_role(evtowner, 'USAGE') FROM pg_catalog.pg_event_trigger
		WHERE evtfoid = $1 AND evttags IS NULL OR evtname = ANY ($2) ORDER BY evtname`, function, names)
	if err != nil {
		return st, fmt.Errorf("look for event triggers: %w", err)
	}
	st.names, st.enabled, st.mayDrop = make(map[string]string), make(map[string]bool), true
	var name, event string
	var ours, enabled, owned bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &event, &ours, &enabled, &owned}, func() error {
		if ours {
			st.names[event], st.enabled[event] = name, enabled
			st.mayDrop = st.mayDrop && owned
		} else {
			st.taken = append(st.taken, name)
		}
		return nil
	}); err != nil {
		return st, fmt.Errorf("look for event triggers: %w", err)
	}
	return st, nil
}

// planEventTriggers plans to make the event triggers that are asked for, or to remove those that
// nobody wants any more.
func (p *plan) planEventTriggers(ctx context.Context, conn *pgx.Conn) error {
	s := p.s
	if p.state.closed {
		return nil
	}
	st, err := p.readEventTriggers(ctx, conn)
	if err != nil {
		return err
	}
	part := &p.eventTriggers
	if s.eventTriggers || p.state.wishes {
		// First of all, so that no other slot removes what is made for this one.
		part.step("", s.noteEventTriggers)
	}
	if !s.eventTriggers {
		p.planDropEventTriggers(st)
		return nil
	}
	for _, name := range st.taken {
		part.refuse(&SetupError{Text: fmt.Sprintf("event trigger %s is there, and is none of ours", name),
			Hint: fmt.Sprintf("ALTER EVENT TRIGGER %s RENAME TO another_name;", quoteIdent(name))})
	}
	triggers := s.triggerStatements(st)
	var statements []string
	// A function that somebody else could replace gets no event trigger: see announceStatement.
	if !st.current || len(triggers) > 0 && !st.owned {
		statements = append(statements, s.announceStatement(), "ALTER FUNCTION "+s.control(announceFunction)+"() OWNER TO CURRENT_USER")
	}
	if statements = append(statements, triggers...); len(statements) == 0 {
		return nil
	}
	if !st.super && (len(triggers) > 0 || !st.mayReplace) {
		part.warn(s.mayNotMakeEventTriggers(statements, nil))
	}
	part.step("make event triggers, which announce changes of the catalog in the stream:\n"+strings.Join(statements, ";\n")+";",
		func(ctx context.Context, conn *pgx.Conn) error { return s.makeEventTriggers(ctx, conn, statements) })
	return nil
}

// triggerStatements returns the statements that make the event triggers that are missing or
// disabled.
func (s *Syncer) triggerStatements(st eventTriggerState) (statements []string) {
	for _, event := range announceEvents {
		name, there := st.names[event]
		if !there {
			name = s.triggerName(event)
			statements = append(statements, fmt.Sprintf("CREATE EVENT TRIGGER %s ON %s EXECUTE FUNCTION %s()", quoteIdent(name), event, s.control(announceFunction)))
		}
		if !st.enabled[event] { // also in sessions whose session_replication_role is replica
			statements = append(statements, fmt.Sprintf("ALTER EVENT TRIGGER %s ENABLE ALWAYS", quoteIdent(name)))
		}
	}
	return statements
}

// mayNotMakeEventTriggers says what a superuser has to run. In one transaction, so that whoever
// owns an older function does not change the new one before it has another owner.
func (s *Syncer) mayNotMakeEventTriggers(statements []string, err error) *SetupError {
	return &SetupError{Text: fmt.Sprintf("role %s may not make event triggers: that takes a superuser, or the role to which your provider gives this right", s.config.User), Err: err,
		Hint: fmt.Sprintf("BEGIN;\nCREATE SCHEMA IF NOT EXISTS %s AUTHORIZATION %s;\n%s;\nCOMMIT;", quoteIdent(s.namespace), quoteIdent(s.config.User), strings.Join(statements, ";\n"))}
}

// makeEventTriggers runs the statements in one transaction: a function of ours without event triggers
// is not left behind where the role may not make these.
func (s *Syncer) makeEventTriggers(ctx context.Context, conn *pgx.Conn, statements []string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if sqlState(err) == "42501" {
		return s.mayNotMakeEventTriggers(statements, err)
	}
	if err != nil {
		return fmt.Errorf("make event triggers: %w", err)
	}
	s.log.Info("made event triggers", "statements", len(statements), "schema", s.namespace)
	return nil
}

// planDropEventTriggers plans to remove what this slot does not want. The function stays, see
// announceStatement.
func (p *plan) planDropEventTriggers(st eventTriggerState) {
	s := p.s
	if len(st.names) == 0 || st.inUse {
		return
	}
	var statements []string
	for _, event := range announceEvents {
		if name, there := st.names[event]; there {
			statements = append(statements, "DROP EVENT TRIGGER "+quoteIdent(name))
		}
	}
	if !st.mayDrop { // a superuser has made them; they do no harm
		p.eventTriggers.step("", func(context.Context, *pgx.Conn) error {
			s.log.Warn("nobody wants the event triggers any more, and the role may not drop them", "role", s.config.User, "hint", strings.Join(statements, "; ")+";")
			return nil
		})
		return
	}
	p.eventTriggers.step("drop the event triggers:\n"+strings.Join(statements, ";\n")+";", func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("drop the event triggers: %w", err)
			}
		}
		s.log.Info("dropped the event triggers, nobody wants them any more", "schema", s.namespace)
		return nil
	})
}

// noteEventTriggers notes in the slot table whether this slot wants event triggers: several slots
// may share a control schema.
func (s *Syncer) noteEventTriggers(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `UPDATE `+s.control(slotTable)+` SET event_triggers = $2 WHERE slot = $1 AND event_triggers <> $2`, s.slot, s.eventTriggers)
	if err != nil {
		return fmt.Errorf("note whether slot %s wants event triggers: %w", s.slot, err)
	}
	return nil
}
