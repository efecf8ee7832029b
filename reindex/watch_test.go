package reindex

import (
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// never is an interval after which the catalog is not looked at in a test: only when it is woken.
const never = time.Hour

// A change of the catalog that the stream says nothing of is seen when somebody announces it.
func TestLook(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, `CREATE TYPE mood AS ENUM ('sad', 'ok')`, `CREATE TABLE t (id int PRIMARY KEY, m mood)`, `INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`)
	p := r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	r.db.Exec(t, `ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`)
	p.manager.Look()
	await(t, "the documents have the new value", func() bool {
		source, _ := r.document(t, r.prefix+"t", "7")
		return source["m"] == "unhappy"
	})
	p.settle(t)
	r.check(t, "t")
}

// What the tables are is noted when all that comes of the differences is done: a process that ends
// before has the next one do it again, and one that ends after it does not.
func TestNotedWhenDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, `CREATE TYPE mood AS ENUM ('sad', 'ok')`, `CREATE TABLE t (id int PRIMARY KEY, m mood)`, `INSERT INTO t SELECT i, 'sad' FROM generate_series(1, 20) i`)
	p := r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	await(t, "the tables are noted", func() bool { return strings.Contains(r.state(t, "t").Live.Tables, `"text":"sad"`) })
	r.db.Exec(t, `ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'`)
	before := r.state(t, "t").Live.Tables
	// The rows cannot be read.
	tx, err := r.db.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE t IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	p.manager.Look()
	await(t, "the lock is waited for", func() bool { return p.syncer.Status().LockWait != nil })
	if now := r.state(t, "t").Live.Tables; now != before {
		t.Errorf("the tables are noted as %s before the documents are stored again", now)
	}
	r.crashAll(t)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	p = r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	await(t, "the tables are noted", func() bool { return strings.Contains(r.state(t, "t").Live.Tables, `"text":"unhappy"`) })
	p.settle(t)
	r.check(t, "t")
	_, version := r.document(t, r.prefix+"t", "7")
	r.crashAll(t)
	p = r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	await(t, "the catalog was looked at", p.manager.looked.Load)
	p.settle(t)
	if _, now := r.document(t, r.prefix+"t", "7"); now != version {
		t.Error("the documents are stored again where nothing has changed")
	}
}

// An index that is held is taken for complete by no other process: it has missed changes, whatever
// the table is called by then.
func TestMissedIsNoted(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	_, before := r.physical(t, "t")
	r.db.Exec(t, `ALTER TABLE t RENAME TO z`, `UPDATE z SET v = 'away' WHERE id = 7`)
	await(t, "that changes are missed is noted", func() bool { return r.state(t, "t").Incomplete() })
	await(t, "the alarm says so", func() bool { // it is raised after the note
		err := p.manager.failures()
		return err != nil && strings.Contains(err.Error(), "table public.t is")
	})
	p.settle(t) // the position is confirmed without the change
	r.crashAll(t)
	r.db.Exec(t, `ALTER TABLE z RENAME TO t`)
	p = r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	if _, now := r.physical(t, "t"); now == before {
		t.Error("the index is not built anew")
	}
	p.settle(t)
	r.check(t, "t")
}

// What changes while an index that was held is built anew goes to the new one, also where its rows
// have been read already.
func TestHeldIndexIsFollowedWhileBuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, `+slow+`}`, tableT, rowsT(100))
	p := r.start(t, options{serve: true})
	p.complete(t)
	_, before := r.physical(t, "t")
	r.db.Exec(t, `ALTER TABLE t RENAME TO z`, `UPDATE z SET v = 'away' WHERE id = 7`)
	await(t, "that changes are missed is noted", func() bool { return r.state(t, "t").Incomplete() })
	r.db.Exec(t, `ALTER TABLE z RENAME TO t`, `UPDATE t SET v = 'back' WHERE id = 8`)
	r.building(t, "t")
	r.db.Exec(t, `UPDATE t SET v = 'meanwhile' WHERE id = 1`, `DELETE FROM t WHERE id = 2`, `INSERT INTO t VALUES (0, 'new')`)
	await(t, "the new index is in use", func() bool {
		_, now := r.physical(t, "t")
		return now != before && r.state(t, "t").Building.Physical == ""
	})
	p.settle(t)
	r.check(t, "t")
}

// While no documents can be made of its tables, nothing that is asked of an index is said to be done.
func TestHeldIndexIsAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	r.db.Exec(t, `ALTER TABLE t RENAME TO z`, `UPDATE z SET v = 'away' WHERE id = 7`)
	await(t, "that changes are missed is noted", func() bool { return r.state(t, "t").Incomplete() })
	r.ended(t, r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"}), control.PhaseFailed, "no documents can be made of its tables")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindRefresh, Index: "t", Source: "public.t", Condition: "id = 7"}), control.PhaseFailed, "no documents are stored")
	r.db.Exec(t, `ALTER TABLE z RENAME TO t`)
	p.manager.Look()
	await(t, "the index is built anew", func() bool { st := r.state(t, "t"); return !st.Incomplete() && st.Building.Physical == "" })
	p.settle(t)
	r.check(t, "t")
}

// What changes while an index that is held is rebuilt because somebody asks for that goes to the new
// one.
func TestHeldIndexIsFollowedWhileRebuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, `+slow+`}`, tableT, rowsT(100))
	p := r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	await(t, "the catalog was looked at", p.manager.looked.Load)
	_, before := r.physical(t, "t")
	if err := p.manager.hold(t.Context(), p.manager.indices[0], "a test"); err != nil { // nobody has looked yet whether it can be built
		t.Fatal(err)
	}
	r.db.Exec(t, `UPDATE t SET v = 'held' WHERE id = 7`)
	id := r.ask(t, control.Request{Kind: control.KindReindex, Index: "t"})
	r.building(t, "t")
	r.db.Exec(t, `UPDATE t SET v = 'meanwhile' WHERE id = 1`, `DELETE FROM t WHERE id = 2`, `INSERT INTO t VALUES (0, 'new')`)
	r.ended(t, id, control.PhaseDone, "")
	if _, now := r.physical(t, "t"); now == before {
		t.Error("the index is not rebuilt")
	}
	if err := p.manager.failures(); err != nil {
		t.Errorf("the alarm stays: %v", err)
	}
	p.settle(t)
	r.check(t, "t")
}

// A rebuild because changes are missing cannot be gone back from: the index in use is not what it
// should be, also for the process that comes when the rebuild was given up in between.
func TestStaleIndexIsNotGoneBackTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, settings: {index.mapping.total_fields.limit: 50}}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.db.Unique("slot")+`')`, `UPDATE t SET v = 'missed' WHERE id = 7`)
	r.indices = `PREFIXt: {table: t, settings: {index.mapping.total_fields.limit: 1}}` // refused
	p := r.start(t, options{serve: true, partitions: never, syncer: []dbsync.SyncerOpt{dbsync.WithNewSlot()}})
	await(t, "the rebuild is refused", func() bool { return p.manager.failures() != nil })
	r.crashAll(t)
	r.indices = `PREFIXt: {table: t, settings: {index.mapping.total_fields.limit: 50}}`
	p = r.start(t, options{serve: true, partitions: never})
	p.complete(t)
	p.settle(t)
	r.check(t, "t")
}

// Nor is it gone back to because somebody asks for that.
func TestStaleIndexIsNotCancelledTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, `+slow+`}`, tableT, rowsT(100))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.db.Unique("slot")+`')`, `UPDATE t SET v = 'missed' WHERE id = 7`)
	p := r.start(t, options{serve: true, partitions: never, syncer: []dbsync.SyncerOpt{dbsync.WithNewSlot()}})
	r.building(t, "t")
	r.ended(t, r.ask(t, control.Request{Kind: control.KindCancel, Index: "t"}), control.PhaseFailed, "misses changes")
	p.complete(t)
	p.settle(t)
	r.check(t, "t")
}

// A table that is altered and altered back before anybody looks leaves documents that were made of
// it in between.
func TestAlteredAndBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{serve: true, partitions: never, altered: (*Manager).stray, verify: mapping.Verify{OnDifference: mapping.OnDifferenceRepair}})
	p.complete(t)
	await(t, "the catalog was looked at", p.manager.looked.Load)
	r.db.Exec(t, `ALTER TABLE t RENAME v TO x`, `UPDATE t SET x = 'between' WHERE id = 7`)
	await(t, "a document is made of it", func() bool {
		source, _ := r.document(t, r.prefix+"t", "7")
		return source["x"] == "between"
	})
	r.db.Exec(t, `ALTER TABLE t RENAME x TO v`)
	p.manager.Look()
	r.awaitCheck(t, "t")
}
