package testenv

import (
	"testing"
	"time"
)

// TestPostgresSetBack puts a snapshot in place twice: what came after it is gone, and the cluster
// is the same.
func TestPostgresSetBack(t *testing.T) {
	p := StartPostgres(t, PostgresOptions{})
	d := p.NewDatabase(t)
	ctx := within(t, 2*time.Minute)
	if err := p.SetBack(ctx); err == nil {
		t.Error("it is set back to no snapshot")
	}
	count := func(want int) {
		t.Helper()
		d.DB.SetMaxIdleConns(0)
		var n int
		if err := d.DB.QueryRowContext(ctx, "SELECT count(*) FROM a").Scan(&n); err != nil || n != want {
			t.Fatalf("%d rows, want %d (%v)", n, want, err)
		}
	}
	var before, after string
	const identifier = "SELECT system_identifier::text FROM pg_control_system()"
	must(t, d.DB.QueryRowContext(ctx, identifier).Scan(&before))
	d.Exec(t, "CREATE TABLE a (id int)", "INSERT INTO a VALUES (1)")
	must(t, p.Stop(ctx))
	must(t, p.Snapshot(ctx))
	for range 2 {
		must(t, p.Start(ctx))
		count(1)
		d.Exec(t, "INSERT INTO a VALUES (2)")
		count(2)
		must(t, p.Kill(ctx))
		must(t, p.SetBack(ctx))
	}
	must(t, p.Start(ctx))
	count(1)
	must(t, d.DB.QueryRowContext(ctx, identifier).Scan(&after))
	if before != after {
		t.Errorf("system identifier %s, then %s", before, after)
	}
}
