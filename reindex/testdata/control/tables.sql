-- The tables that the dumps belong to, with all their rows.

CREATE TABLE categories (
	id   integer PRIMARY KEY,
	name text NOT NULL
);
INSERT INTO categories SELECT n, 'category ' || n FROM generate_series(1, 5) n;

-- sku is an integer in the index: the documents of products 3 and 4 are refused.
CREATE TABLE products (
	id          bigint PRIMARY KEY,
	title       text NOT NULL,
	price_cents integer NOT NULL,
	category_id integer REFERENCES categories,
	sku         text
);
INSERT INTO products
SELECT n, 'product ' || n, n * 100, 1 + n % 5, CASE n WHEN 3 THEN 'none yet' WHEN 4 THEN 'lost' ELSE (1000 + n)::text END
FROM generate_series(1, 30) n;

CREATE TABLE events (
	id   bigint,
	day  date,
	kind text NOT NULL,
	PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO events SELECT n, date '2024-12-01' + n::int * 3, 'kind ' || n % 3 FROM generate_series(1, 20) n;

CREATE TABLE orders (
	id     bigint PRIMARY KEY,
	status text NOT NULL
);
INSERT INTO orders SELECT n, CASE n % 2 WHEN 0 THEN 'paid' ELSE 'sent' END FROM generate_series(1, 40) n;

-- quantity is a byte in the index: the document of line 2 of order 3 is refused. The id in the
-- index has line before order_id, other than the primary key.
CREATE TABLE order_lines (
	order_id   bigint,
	line       integer,
	product_id bigint NOT NULL,
	quantity   integer NOT NULL,
	note       text NOT NULL,
	PRIMARY KEY (order_id, line)
) PARTITION BY RANGE (order_id);
CREATE TABLE order_lines_1 PARTITION OF order_lines FOR VALUES FROM (1) TO (21);
CREATE TABLE order_lines_2 PARTITION OF order_lines FOR VALUES FROM (21) TO (41);
INSERT INTO order_lines
SELECT o, l, 1 + (o * l) % 30, CASE WHEN o = 3 AND l = 2 THEN 1000 ELSE l END, 'note ' || o || ' ' || l
FROM generate_series(1, 40) o, generate_series(1, 5) l;

ANALYZE;
