package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// fanoutOthers is how many documents include another row, and are changed meanwhile.
	fanoutOthers = 10_000
	// fanoutRate is how many of them are changed a second.
	fanoutRate = 200
	// fanoutStep is how long it is between two looks at how many documents are done.
	fanoutStep = 100 * time.Millisecond
	// fanoutMark is what the row says that is changed. A word is a token of any analyzer.
	fanoutMark = "changed"
)

const fanoutTables = `
	create table owners (id bigint primary key, name text not null);
	insert into owners values (1, 'first'), (2, 'second');
	create table notes (id bigint primary key, owner_id bigint not null references owners, stock integer not null, title text not null, body text not null);
	insert into notes select n, case when n <= %[1]d then 1 else 2 end, 0, 'title ' || n, md5(n::text) || ' ' || md5((n + 1)::text) from generate_series(1, %[1]d + %d) n;
	create index on notes (owner_id);
	vacuum (analyze) notes;
	vacuum (analyze) owners`

const fanoutIndex = `table: public.notes
include:
  owner: {table: public.owners, on: {owner_id: id}, fields: [name]}`

// fanoutQuery gives what the documents ought to say of what changes.
const fanoutQuery = `select n.id::text, n.stock, n.title, o.name from notes n join owners o on o.id = n.owner_id`

// fanout changes a row that many documents include, while others are changed.
func (b *bench) fanout(ctx context.Context, n int) (err error) {
	b.tell("making %d rows that include one", b.o.fanout)
	for statement := range strings.SplitSeq(fmt.Sprintf(fanoutTables, b.o.fanout, fanoutOthers), ";") {
		if _, err := b.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	tools, err := b.newTools(fanout, fanoutIndex)
	if err != nil {
		return err
	}
	defer func() {
		_, dropped := b.conn.Exec(context.WithoutCancel(ctx), "drop table notes, owners")
		err = errors.Join(err, b.remove(ctx, tools, ""), dropped)
	}()
	f := filling{
		step: fanout, series: "backfill", what: "documents", n: b.o.fanout + fanoutOthers, query: fanoutQuery,
		check: func(index string) error { return b.checkFanout(ctx, index) },
	}
	if _, err := b.fill(ctx, n, f, tools); err != nil {
		return err
	}
	turns := slices.Clone(tools)
	if n%2 == 1 {
		slices.Reverse(turns)
	}
	for i, t := range turns {
		if err := b.fanoutOf(ctx, t, fmt.Sprint(fanoutMark, i)); err != nil {
			return err
		}
		if b.servers.sink == nil {
			if err := f.check(t.index); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// fanoutOf measures one tool.
func (b *bench) fanoutOf(ctx context.Context, t *tool, mark string) error {
	b.tell("a row that %d documents include is changed, and followed by %s", b.o.fanout, t.name)
	if err := b.awaitIdle(ctx); err != nil {
		return err
	}
	if sink := b.servers.sink; sink != nil {
		sink.count(mark)
		defer sink.pass()
	}
	r, err := t.run()
	if err != nil {
		return err
	}
	others := make([]int64, fanoutOthers)
	for i := range others {
		others[i] = int64(b.o.fanout + i + 1)
	}
	var found delays
	var took time.Duration
	var begin, end moment
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		if err := b.awaitFollowing(ctx, t, "notes", others[0]); err != nil {
			return err
		}
		if begin, err = r.look(ctx); err != nil {
			return err
		}
		if _, err := b.conn.Exec(ctx, "update owners set name = $1 where id = 1", mark); err != nil {
			return err
		}
		committed := time.Now()
		until, done := context.WithCancelCause(ctx)
		defer done(nil)
		waited := make(chan error, 1)
		go func() { // until all documents are done, or until ends
			err := b.awaitMarked(until, t.index, mark)
			took = time.Since(committed)
			done(err)
			waited <- err
		}()
		found, err = b.delays(ctx, until, t.index, stream{"notes", others, fanoutRate})
		done(err)
		if err = errors.Join(err, <-waited); err != nil {
			return err
		}
		if end, err = r.look(ctx); err != nil {
			return err
		}
		return b.awaitConfirmed(ctx, t)
	}()
	u, err := r.stop(ctx, err)
	if err != nil {
		return err
	}
	s := b.report.of(fanout, "", t.name)
	s.add("until all documents are done", "s", took.Seconds())
	s.add("documents done", "documents/s", rate(b.o.fanout, took))
	u.CPU, u.written = end.processor-begin.processor, end.written.since(begin.written)
	s.usage(b.o.fanout, u)
	found.add(b.report.of(fanout, "other changes meanwhile", t.name))
	return nil
}

// awaitMarked waits until as many documents as the row concerns say what it says now.
func (b *bench) awaitMarked(ctx context.Context, index, mark string) error {
	for tick := time.NewTicker(fanoutStep); ; {
		var done struct{ Count int64 }
		if sink := b.servers.sink; sink != nil {
			done.Count = sink.marked.Load()
		} else if err := b.search.call(ctx, http.MethodGet, "/"+index+"/_count?q="+url.QueryEscape("owner.name:"+mark), nil, &done); err != nil {
			return err
		}
		if done.Count >= int64(b.o.fanout) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkFanout compares what may change of the documents with the rows.
func (b *bench) checkFanout(ctx context.Context, index string) error {
	type note struct {
		Stock int64
		Title string
		Owner struct{ Name string }
	}
	want := make(map[string]note, b.o.fanout)
	rows, err := b.conn.Query(ctx, fanoutQuery)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n note
		if err := rows.Scan(&id, &n.Stock, &n.Title, &n.Owner.Name); err != nil {
			return err
		}
		want[id] = n
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return compare(ctx, b.search, index, want, func(source []byte) (n note, err error) {
		err = json.Unmarshal(source, &n)
		return n, err
	})
}
