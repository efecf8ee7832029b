package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/testenv"
)

// large is SQL for text of random letters, too large to stay within its row.
func large(seed string) string {
	return fmt.Sprintf("(SELECT string_agg(md5(%s || j::text), '') FROM generate_series(1, 200) j)", seed)
}

// TestRows changes rows in every way that the log tells in a way of its own.
func TestRows(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newSetup(t, testenv.SharedSearch(t, e))
		s.db.Exec(t, `
			CREATE TABLE toast (id int PRIMARY KEY, big text, other text, wide bytea);
			INSERT INTO toast SELECT i, `+large("i::text")+`, 'other', convert_to(`+large("'w' || i::text")+`, 'UTF8') FROM generate_series(1, 200) i;

			CREATE TABLE toast_key (id text PRIMARY KEY, other int); -- the key itself is outside of the row
			ALTER TABLE toast_key ALTER id SET STORAGE EXTERNAL;
			INSERT INTO toast_key SELECT 'k' || i || '-' || repeat('x', 2400), i FROM generate_series(1, 20) i;

			CREATE TABLE toast_full (id int PRIMARY KEY, big text, other text);
			ALTER TABLE toast_full REPLICA IDENTITY FULL;
			INSERT INTO toast_full SELECT i, `+large("i::text")+`, 'other' FROM generate_series(1, 50) i;

			CREATE TABLE generated (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED);
			INSERT INTO generated SELECT i, i FROM generate_series(1, 100) i;

			CREATE TABLE routed (id int PRIMARY KEY, tenant text, v text);
			ALTER TABLE routed REPLICA IDENTITY FULL;
			INSERT INTO routed SELECT i, 't' || i % 7, 'v' || i FROM generate_series(1, 200) i;

			CREATE TABLE composite (a text, b int, v text, PRIMARY KEY (a, b));
			INSERT INTO composite SELECT CASE i % 3 WHEN 0 THEN '|~' WHEN 1 THEN '' ELSE 'plain' END, i, 'v' FROM generate_series(1, 100) i;

			CREATE TABLE by_unique (id int PRIMARY KEY, code text NOT NULL, region text NOT NULL, v int);
			CREATE UNIQUE INDEX by_unique_code ON by_unique (region, code);
			ALTER TABLE by_unique REPLICA IDENTITY USING INDEX by_unique_code;
			INSERT INTO by_unique SELECT i, 'c' || i, 'r' || i % 3, i FROM generate_series(1, 100) i;

			CREATE TABLE truncated (id int PRIMARY KEY, v text);
			INSERT INTO truncated SELECT i, 'old' FROM generate_series(1, 12000) i;
			CREATE TABLE truncated_within (id int PRIMARY KEY, v text);
			INSERT INTO truncated_within SELECT i, 'old' FROM generate_series(1, 500) i;

			CREATE TABLE parted (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
			CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
			CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b');
			INSERT INTO parted SELECT CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, i, 'v' FROM generate_series(1, 200) i;

			CREATE TABLE mapped (id int PRIMARY KEY, price_cents int, secret text, title text);
			INSERT INTO mapped SELECT i, i, 'secret', 'title ' || i FROM generate_series(1, 100) i;

			CREATE SCHEMA "Odd ""Schema";
			CREATE TABLE "Odd ""Schema"."Select" ("Id" int PRIMARY KEY, "from" text, "a ""quoted"" name" text);
			INSERT INTO "Odd ""Schema"."Select" SELECT i, 'f', 'q' FROM generate_series(1, 20) i;

			CREATE TABLE nothing (id int PRIMARY KEY)`)
		s.index("toast", "toast", "")
		s.index("toast-again", "toast", ", fields: {wide: false}", testenv.WithFields("wide"))
		s.index("toast-without", "toast", ", fields: {big: false, wide: false}", testenv.WithFields("big"), testenv.WithFields("wide"))
		s.index("toast-key", "toast_key", "")
		s.index("toast-full", "toast_full", "")
		s.index("generated", "generated", "")
		s.index("routed", "routed", ", routing: tenant, settings: {number_of_shards: 4}", testenv.WithRouting("tenant"))
		s.index("composite", "composite", "")
		s.index("by-unique", "by_unique", ", id: [region, code]", testenv.WithID("region", "code"))
		s.index("truncated", "truncated", "")
		s.index("truncated-within", "truncated_within", "")
		s.index("parted", "parted", "")
		s.index("mapped", "mapped", ", fields: {price: {column: price_cents}, secret: false, heading: {column: title, type: keyword}, title: true}",
			testenv.WithFields("price_cents", "price"), testenv.WithFields("secret"), testenv.WithFields("title", "heading", "title"))
		s.index("odd", `"Odd ""Schema"."Select"`, "")
		s.index("nothing", "nothing", "")

		i := s.start(t, "run")
		s.awaitComplete(t, i)
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)

		for _, change := range []struct{ name, indices, sql string }{
			{"unchanged large values", "toast toast-again toast-without", `UPDATE toast SET other = 'changed' WHERE id <= 50`},
			{"the same row again and again", "toast toast-again toast-without", `
				BEGIN; UPDATE toast SET other = 'one' WHERE id = 60; UPDATE toast SET big = 'small now' WHERE id = 60; UPDATE toast SET other = 'two' WHERE id = 60; COMMIT;
				UPDATE toast SET other = 'three' WHERE id = 60`},
			{"a changed key with large values", "toast toast-again toast-without", `UPDATE toast SET id = id + 1000 WHERE id BETWEEN 70 AND 90`},
			{"changed, and gone before it can be read again", "toast toast-again toast-without", `
				BEGIN; UPDATE toast SET other = 'x' WHERE id = 100; DELETE FROM toast WHERE id = 100; COMMIT;
				UPDATE toast SET other = 'x' WHERE id = 101; DELETE FROM toast WHERE id = 101;
				UPDATE toast SET other = 'x' WHERE id = 102; UPDATE toast SET id = 2102 WHERE id = 102; INSERT INTO toast VALUES (102, 'new', 'new')`},
			{"large keys", "toast-key", `UPDATE toast_key SET other = -other; UPDATE toast_key SET id = 'new' || id WHERE other > -5; DELETE FROM toast_key WHERE other < -15`},
			{"large values of a whole old row", "toast-full", `UPDATE toast_full SET other = 'changed' WHERE id <= 20; UPDATE toast_full SET id = -id WHERE id > 40; DELETE FROM toast_full WHERE id = 30`},
			{"generated columns", "generated", `UPDATE generated SET a = a + 1; INSERT INTO generated VALUES (1000, 5); DELETE FROM generated WHERE id = 3; UPDATE generated SET id = -5 WHERE id = 5`},
			{"another routing", "routed", `
				UPDATE routed SET tenant = 'other' WHERE id <= 50; UPDATE routed SET tenant = NULL WHERE id BETWEEN 60 AND 70; DELETE FROM routed WHERE id BETWEEN 80 AND 90;
				BEGIN; UPDATE routed SET tenant = 'x' WHERE id = 100; UPDATE routed SET tenant = 'y' WHERE id = 100; UPDATE routed SET tenant = 'x' WHERE id = 100; COMMIT;
				UPDATE routed SET tenant = '', id = 1000 + id WHERE id > 190`},
			{"keys of several columns", "composite", `UPDATE composite SET a = a || '|', b = -b WHERE b <= 50; DELETE FROM composite WHERE b > 90; UPDATE composite SET v = 'w' WHERE b BETWEEN 60 AND 70`},
			{"two rows that change places", "composite", `BEGIN; UPDATE composite SET b = 1000 WHERE a = 'plain' AND b = 80; UPDATE composite SET b = 80 WHERE a = 'plain' AND b = 83; UPDATE composite SET b = 83 WHERE a = 'plain' AND b = 1000; COMMIT`},
			{"an identity of its own", "by-unique", `UPDATE by_unique SET v = 0 WHERE id < 20; UPDATE by_unique SET code = 'new' || code WHERE id BETWEEN 30 AND 40; DELETE FROM by_unique WHERE id > 90; UPDATE by_unique SET id = -id WHERE id BETWEEN 50 AND 60`},
			{"truncated", "truncated", `TRUNCATE truncated; INSERT INTO truncated SELECT i, 'new' FROM generate_series(11990, 12100) i`},
			{"truncated in the middle of a transaction", "truncated-within", `
				BEGIN; INSERT INTO truncated_within VALUES (1001, 'gone'); UPDATE truncated_within SET v = 'gone' WHERE id < 100; TRUNCATE truncated_within;
				INSERT INTO truncated_within SELECT i, 'kept' FROM generate_series(50, 150) i; UPDATE truncated_within SET id = 2000 WHERE id = 100; COMMIT`},
			{"truncated twice", "truncated", `BEGIN; TRUNCATE truncated; INSERT INTO truncated VALUES (1, 'gone'); TRUNCATE truncated; INSERT INTO truncated VALUES (2, 'kept'); COMMIT; UPDATE truncated SET v = 'changed'`},
			{"partitions", "parted", `
				UPDATE parted SET v = 'changed' WHERE id <= 50; UPDATE parted SET region = 'b' WHERE region = 'a' AND id > 150; DELETE FROM parted WHERE id BETWEEN 60 AND 80;
				CREATE TABLE parted_c PARTITION OF parted FOR VALUES IN ('c'); INSERT INTO parted VALUES ('c', 1, 'in a new partition'); UPDATE parted_c SET v = 'changed'`},
			{"fields of other names", "mapped", `UPDATE mapped SET price_cents = -1 WHERE id < 10; UPDATE mapped SET secret = 'other'; DELETE FROM mapped WHERE id > 90`},
			{"names that need quotes", "odd", `UPDATE "Odd ""Schema"."Select" SET "from" = 'x' WHERE "Id" < 10; DELETE FROM "Odd ""Schema"."Select" WHERE "Id" = 15`},
			{"rolled back", "toast routed composite", `BEGIN; DELETE FROM toast; TRUNCATE routed; ROLLBACK; BEGIN; SAVEPOINT a; DELETE FROM composite; ROLLBACK TO a; UPDATE composite SET v = 'after'; COMMIT`},
			{"a table without other columns", "nothing", `BEGIN; INSERT INTO nothing VALUES (1), (2); DELETE FROM nothing WHERE id = 1; UPDATE nothing SET id = 3; COMMIT`},
		} {
			t.Run(strings.ReplaceAll(change.name, " ", "-"), func(t *testing.T) {
				s.db.Exec(t, change.sql)
				s.awaitCaughtUp(t, i)
				s.checkIndices(t, strings.Fields(change.indices)...)
			})
		}
		s.checkSynced(t)
		i.stop(t)
	})
}
