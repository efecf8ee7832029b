package dbsync

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// readServer finds out about the server what everything else depends on, and returns why it
// cannot be used.
func (s *Syncer) readServer(ctx context.Context) (wrong []*SetupError, err error) {
	var level string
	var standby bool
	err = s.db.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int,
		pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), pg_catalog.current_database()`).
		Scan(&s.serverVersion, &level, &standby, &s.dbName)
	if problem := SessionProblem(err); problem != nil {
		return append(wrong, problem), nil
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if s.serverVersion < 140000 {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("the server is Postgres %d, 14 is the oldest that works", s.serverVersion/10000), Hint: "upgrade the server"})
	}
	if level != "logical" {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("wal_level is %s, logical replication needs logical", level),
			Hint: "ALTER SYSTEM SET wal_level = logical; then restart Postgres"})
	}
	if standby {
		wrong = append(wrong, &SetupError{Text: "the server is a standby, where no watermark can be written", Hint: "connect to the primary; with several hosts in the connection string: target_session_attrs=read-write"})
	}
	unfit, err := s.readSlotServer(ctx)
	if err != nil {
		return nil, err
	}
	wrong = append(wrong, unfit...)
	err = s.identify(ctx)
	var refused *SetupError
	switch {
	case errors.As(err, &refused):
		wrong = append(wrong, refused)
	case err != nil && len(wrong) == 0: // otherwise it may well be a consequence
		return nil, err
	}
	return wrong, nil
}

// identify reads the identity of the database system over a replication connection,
// which shows that one can be had.
func (s *Syncer) identify(ctx context.Context) error {
	conn, err := connectReplication(ctx, s.slotConfig, s.maxRow)
	if err != nil {
		if sqlState(err) == "42501" || sqlState(err) == "28000" {
			return &SetupError{Text: fmt.Sprintf("role %s may not open a replication connection", s.config.User), Err: err,
				Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION; and a line for the database in pg_hba.conf", quoteIdent(s.config.User))}
		}
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	system, err := pglogrepl.IdentifySystem(ctx, conn.PgConn)
	if err != nil {
		return fmt.Errorf("identify the database system: %w", err)
	}
	s.system, s.timeline = system.SystemID, system.Timeline
	if s.history, err = readHistory(ctx, conn.PgConn, system.Timeline); err != nil {
		return err
	}
	return s.checkSameSystem(ctx)
}
