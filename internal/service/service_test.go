package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestOnce(t *testing.T) {
	db := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	prefix := search.NewPrefix(t)
	db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric)", "INSERT INTO t SELECT i, 'v' || i, i * 1.5 FROM generate_series(1, 30000) i")
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	yaml := fmt.Sprintf(`
postgres: {url: "%s", slot: %s}
search: {urls: ["%s"]}
indices:
  %st: {table: t}
`, db.URL, db.Unique("slot"), search.URL, prefix)
	c, err := mapping.Parse("t.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	once := func() {
		start := time.Now()
		p, err := prepare.Prepare(t.Context(), c, log)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		err = service.Run(context.WithoutCancel(t.Context()), c, p, service.Options{Once: true, Logger: log, Display: progress.New(t.Output(), false, log)})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(time.Since(start))
	}
	once()
	docs := search.Documents(t, prefix+"t")
	if len(docs) != 30000 {
		t.Fatal(len(docs))
	}
	db.Exec(t, "UPDATE t SET v = 'x' WHERE id % 10 = 0", "DELETE FROM t WHERE id > 29000", "UPDATE t SET id = -id WHERE id < 100")
	once()
	docs = search.Documents(t, prefix+"t")
	t.Log(len(docs), string(docs["-10"].Source), string(docs["20"].Source), string(docs["200"].Source))
	db.Exec(t, "TRUNCATE t", "INSERT INTO t VALUES (1, 'one', 'NaN')")
	once()
	docs = search.Documents(t, prefix+"t")
	t.Log(len(docs), string(docs["1"].Source))
}
