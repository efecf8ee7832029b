package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// items are the plain table, and what a plain load of it sends.
type items struct {
	*dataset
	load *bulkFile // nil for a sink
	size int64     // of all documents, bytes
}

func (i *items) close() {
	if i.load != nil {
		_ = i.load.close() // has been read; its folder goes
	}
}

// newItems makes and fills the table.
func (b *bench) newItems(ctx context.Context) (_ *items, err error) {
	b.tell("filling a table with %d rows", b.o.rows)
	i := &items{}
	if i.dataset, err = newDataset(ctx, b.conn, b.o.rows); err != nil {
		return nil, err
	}
	tool, err := b.newTool(b.builds[0], "items", "table: public.items")
	if err != nil {
		return nil, err
	}
	if i.table, err = openTable(ctx, b.conn, "items", tool.config); err != nil {
		return nil, err
	}
	if err := i.reset(ctx); err != nil {
		return nil, err
	}
	if b.servers.sink == nil {
		if i.load, err = newBulkFile(b.folder, "rows", b.o.batch); err != nil {
			return nil, err
		}
	}
	count := func(doc document) error {
		i.size += int64(len(doc.body))
		if i.load == nil {
			return nil
		}
		return i.load.store(1, doc)
	}
	if err := i.all(ctx, count); err != nil {
		return nil, err
	}
	b.report.Data = fmt.Sprintf("%d rows of %d bytes as COPY writes them, documents of %d bytes; plain load: %d requests at a time, %d documents each",
		b.o.rows, i.bytes/int64(b.o.rows), i.size/int64(b.o.rows), b.o.requests, b.o.batch)
	if i.load == nil {
		return i, nil
	}
	b.tell("warming up with a plain load")
	warm := b.servers.name + "-warm"
	if _, err := b.plainFilling(ctx, filling{rows: i.load, plain: warm, body: i.body}); err != nil {
		return nil, err
	}
	return i, b.search.drop(ctx, warm)
}

// items does the steps of the plain table, of one run.
func (b *bench) items(ctx context.Context, n int, i *items) (err error) {
	if n > 0 {
		b.tell("starting over")
		if err := i.reset(ctx); err != nil {
			return err
		}
	}
	tools, err := b.newTools("items", "table: public.items")
	if err != nil {
		return err
	}
	plain := b.plain("items")
	defer func() { err = errors.Join(err, b.remove(ctx, tools, plain)) }()
	checkIndex := func(index string) error { return check(ctx, b.search, i.table, index) }
	f := filling{
		step: backfill, what: "rows", n: b.o.rows, bytes: i.size, query: i.selection(),
		rows: i.load, plain: plain, body: i.body, check: checkIndex,
	}
	used, err := b.fill(ctx, n, f, tools)
	if err != nil {
		return fmt.Errorf("%s: %w", backfill, err)
	}
	for t, u := range used {
		b.flat[t.build] = float64(i.size) / u.filling.Seconds()
	}
	version := 1
	for _, s := range []struct {
		step, series string
		commit       func(*operations) (int, error)
	}{
		{catchup, "", func(what *operations) (int, error) { return i.change(ctx, b.o.changes, mixed, what) }},
		{single, "", func(what *operations) (int, error) { return i.change(ctx, b.o.changes, alone, what) }},
		{transaction, "", func(what *operations) (int, error) {
			return i.updateAll(ctx, "price = price + 1, stock = stock + 1", what)
		}},
		{hot, distinct, func(what *operations) (int, error) { return i.updateOf(ctx, b.o.changes, i.live, what) }},
		{hot, few, func(what *operations) (int, error) { return i.updateOf(ctx, b.o.changes, i.live[:b.o.hotRows], what) }},
	} {
		if !b.o.has(s.step) {
			continue
		}
		c := catching{step: s.step, series: s.series, commit: s.commit, first: version, plain: plain, check: checkIndex}
		before := used
		if version, used, err = b.catchUp(ctx, n, c, tools); err != nil {
			return fmt.Errorf("%s: %w", s.step, err)
		}
		if s.series == few {
			for _, t := range tools {
				b.report.of(hot, "", t.name).add(hotRatio, "times", before[t].following.Seconds()/used[t].following.Seconds())
			}
		}
	}
	turns := slices.Clone(tools)
	if n%2 == 1 {
		slices.Reverse(turns)
	}
	for _, t := range turns {
		if b.o.has(live) {
			for _, rate := range b.o.rates {
				if err := b.live(ctx, t, i.dataset, rate); err != nil {
					return fmt.Errorf("%s: %w", live, err)
				}
			}
		}
		if b.o.has(idle) {
			if err := b.idle(ctx, t, i.dataset); err != nil {
				return fmt.Errorf("%s: %w", idle, err)
			}
		}
	}
	return nil
}

// The series of the hot step.
const (
	distinct = "rows all different"
	few      = "hot rows"
)

// plain names an index for a plain load; "" for a sink, which has none.
func (b *bench) plain(of string) string {
	if b.servers.sink != nil {
		return ""
	}
	return b.servers.name + "-plain-" + of
}

// remove removes what tools and a plain load have left.
func (b *bench) remove(ctx context.Context, tools []*tool, plain string) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, t := range tools {
		errs = append(errs, t.remove(ctx, b.conn))
	}
	if plain != "" {
		errs = append(errs, b.search.drop(ctx, plain))
	}
	return errors.Join(errs...)
}
