package dbsync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// failoverVersion is the first version of Postgres in which standbys copy slots that have failover set.
const failoverVersion = 170000

// wantsFailover reports whether the slot is to have failover set.
func (s *Syncer) wantsFailover() bool { return s.serverVersion >= failoverVersion && !s.noFailover }

// setFailover has standbys copy a slot that is there and that nobody follows.
func (s *Syncer) setFailover(ctx context.Context, conn *pgconn.PgConn) error {
	if _, err := conn.Exec(ctx, "ALTER_REPLICATION_SLOT "+quoteIdent(s.slot)+" (FAILOVER true)").ReadAll(); err != nil {
		return fmt.Errorf("have standbys copy slot %s: %w", s.slot, err)
	}
	s.log.Info("standbys copy the slot from now on, where they are set up for it", "slot", s.slot)
	return nil
}

// hosts are the servers that the connection string names, each by a configuration that leads to it alone.
func (s *Syncer) hosts() (all []*pgx.ConnConfig) {
	add := func(host string, port uint16, like *pgconn.FallbackConfig) {
		if slices.ContainsFunc(all, func(c *pgx.ConnConfig) bool { return c.Host == host && c.Port == port }) {
			return // the same with another kind of TLS
		}
		one := s.config.Copy()
		one.Host, one.Port, one.Fallbacks, one.ValidateConnect, one.ConnectTimeout = host, port, nil, nil, standbyTimeout
		if like != nil {
			one.TLSConfig = like.TLSConfig
		}
		for _, f := range s.config.Fallbacks {
			if f.Host == host && f.Port == port && f != like {
				one.Fallbacks = append(one.Fallbacks, f)
			}
		}
		all = append(all, one)
	}
	add(s.config.Host, s.config.Port, nil)
	for _, f := range s.config.Fallbacks {
		add(f.Host, f.Port, f)
	}
	return all
}

// standbyTimeout bounds the looking at one standby.
const standbyTimeout = 5 * time.Second

// lookAtFailover returns what keeps the slot from outliving the promotion of a standby. Where the connection
// string names one host, and the primary has no standby, nothing is said: there is nothing to be promoted.
func (s *Syncer) lookAtFailover(ctx context.Context, conn *pgx.Conn) (missing []string, err error) {
	if s.noFailover || s.onStandby() {
		return nil, nil
	}
	hosts := s.hosts()
	slots, err := s.physicalSlots(ctx, conn)
	if err != nil || len(slots) == 0 && len(hosts) == 1 {
		return nil, err
	}
	if s.serverVersion < failoverVersion {
		return []string{fmt.Sprintf("Postgres %d does not copy logical slots to standbys: when one is promoted, every index has to be filled again; hint: upgrade to Postgres 17 or later", s.serverVersion/10000)}, nil
	}
	var synchronized string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('synchronized_standby_slots')").Scan(&synchronized); err != nil {
		return nil, fmt.Errorf("look at synchronized_standby_slots: %w", err)
	}
	if synchronized == "" {
		name := "NAME"
		if len(slots) > 0 {
			name = slots[0]
		}
		missing = append(missing, fmt.Sprintf("synchronized_standby_slots is empty on the primary: a change may be stored that no standby has, and then a promotion is refused as a database that was set back; "+
			"hint: the slot of the standby that would be promoted: ALTER SYSTEM SET synchronized_standby_slots = '%s'; SELECT pg_reload_conf();", name))
	}
	for _, host := range hosts {
		found, err := s.lookAtStandby(ctx, host, synchronized)
		if err != nil {
			found = []string{fmt.Sprintf("it cannot be asked what it is set up for: %v", errors.Unwrap(err))}
		}
		for _, text := range found {
			missing = append(missing, net.JoinHostPort(host.Host, strconv.Itoa(int(host.Port)))+": "+text)
		}
	}
	return missing, nil
}

// physicalSlots returns the slots of the server that standbys use or may use.
func (s *Syncer) physicalSlots(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY active DESC, slot_name")
	if err != nil {
		return nil, fmt.Errorf("look at the slots of standbys: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look at the slots of standbys: %w", err)
	}
	return names, nil
}

// lookAtStandby returns what a standby lacks so that it can take over with the slot; nothing where it is none.
func (s *Syncer) lookAtStandby(ctx context.Context, host *pgx.ConnConfig, synchronized string) (missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, standbyTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("connect to a standby: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var standby, copied bool
	var version int
	var sync, feedback, slot, conninfo *string // NULL: it has no such setting, or the role may not see it
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version_num')::int,
		(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'sync_replication_slots'), (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'hot_standby_feedback'),
		(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'primary_slot_name'), (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'primary_conninfo'),
		EXISTS (SELECT FROM pg_catalog.pg_replication_slots r WHERE slot_name = $1 AND NOT temporary AND pg_catalog.to_jsonb(r)->>'synced' = 'true' AND wal_status <> 'lost')`, s.slot).
		Scan(&standby, &version, &sync, &feedback, &slot, &conninfo, &copied)
	if err != nil {
		return nil, fmt.Errorf("look at a standby: %w", err)
	}
	if !standby {
		return nil, nil
	}
	const set = "; hint: ALTER SYSTEM SET %s; SELECT pg_reload_conf();"
	if sync != nil && *sync != "on" {
		missing = append(missing, fmt.Sprintf("sync_replication_slots is off, so that no slot is copied"+set, "sync_replication_slots = on"))
	}
	if feedback != nil && *feedback != "on" {
		missing = append(missing, fmt.Sprintf("hot_standby_feedback is off, without which no slot is copied"+set, "hot_standby_feedback = on"))
	}
	switch {
	case slot == nil: // the role may not see it
	case *slot == "":
		missing = append(missing, fmt.Sprintf("primary_slot_name is empty, without which no slot is copied"+set, "primary_slot_name = 'NAME', with the name of a slot that the primary has for it"))
	case synchronized != "" && synchronized != "*" && !slices.Contains(splitNames(synchronized), *slot):
		missing = append(missing, fmt.Sprintf("its slot %s is not in synchronized_standby_slots of the primary, which is %s: what it does not have may be stored; hint: do not promote it, or add it there", *slot, synchronized))
	}
	if conninfo != nil && *conninfo != "" && !namesDatabase(*conninfo) {
		missing = append(missing, fmt.Sprintf("primary_conninfo names no database, without which no slot is copied"+set, fmt.Sprintf("primary_conninfo = '… dbname=%s', with what it has now in place of …", s.dbName)))
	}
	if len(missing) == 0 && !copied {
		missing = append(missing, fmt.Sprintf("slot %s is not copied yet, or not completely: it has to be followed for a moment while the standby is connected", s.slot))
	}
	return missing, nil
}

// namesDatabase reports whether a connection string of keywords and values, or a URL, has a database.
func namesDatabase(conninfo string) bool {
	if _, rest, ok := strings.Cut(conninfo, "://"); ok {
		_, path, _ := strings.Cut(rest, "/")
		path, query, _ := strings.Cut(path, "?")
		return path != "" || strings.Contains(query, "dbname=")
	}
	for _, word := range strings.Fields(conninfo) {
		if name, value, _ := strings.Cut(word, "="); name == "dbname" && value != "" {
			return true
		}
	}
	return false
}

// splitNames splits a list of names as settings have it.
func splitNames(list string) (names []string) {
	for name := range strings.SplitSeq(list, ",") {
		names = append(names, strings.Trim(name, ` "`))
	}
	return names
}
