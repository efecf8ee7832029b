-- Commits: e0fe11e to 766eb65 (the one of this dump).
-- New: cursor has the columns in the order of the unique index, here (order_id, line), and no more
-- in that of the id, (line, order_id).
-- State: the indices products and events are complete; orders is complete and is being filled anew,
-- its note of how far it is in order_lines. Dead letters: products 3 (filling) and 4 (stream),
-- line 2 of order 3 in either index of orders. There were no requests yet.

CREATE SCHEMA dbsync_ctrl;

CREATE TABLE dbsync_ctrl.dbsync_slots (
    slot text NOT NULL,
    generation text NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    confirmed pg_lsn NOT NULL,
    lost text,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    confirmed_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE dbsync_ctrl.dbsync_wmtable (
    slot text NOT NULL,
    token text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE dbsync_ctrl.dead_letters (
    id bigint NOT NULL,
    document_key bytea NOT NULL,
    index_name text NOT NULL,
    doc_id text NOT NULL,
    routing text NOT NULL,
    operation text NOT NULL,
    version pg_lsn NOT NULL,
    status integer NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    document text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    attempts integer DEFAULT 1 NOT NULL,
    CONSTRAINT dead_letters_operation_check CHECK ((operation = ANY (ARRAY['index'::text, 'delete'::text])))
);

ALTER TABLE dbsync_ctrl.dead_letters ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME dbsync_ctrl.dead_letters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE dbsync_ctrl.indices (
    name text NOT NULL,
    generation text NOT NULL,
    live text DEFAULT ''::text NOT NULL,
    live_fingerprint text DEFAULT ''::text NOT NULL,
    building text DEFAULT ''::text NOT NULL,
    building_fingerprint text DEFAULT ''::text NOT NULL,
    source integer DEFAULT 0 NOT NULL,
    cursor text[],
    rows_done bigint DEFAULT 0 NOT NULL,
    rows_total bigint DEFAULT '-1'::integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone
);

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g06', 'DJHK25O76MUTONUZBVPKXV4JL5', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:38:20.117315+00', '2026-11-27 12:38:26.450228+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g06', 'high:5HQDTSUEWER37CRMM4TJX5EGXW', '2026-11-27 12:38:26.522608+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xb736b80469b9b5b41834ee3accb2e8ebaa1f31ce61833580d0191abae472b168', 'g06-products-20261127T123820Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 12:38:20.96946+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x4c3527f72d6ec01d173c4ef9d81d219756d13ede8ba2c49ec33b2f6a6830348e', 'g06-orders-20261127T123820Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:38:21.967917+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x324e193f6b3c758eb84230b4dc7b8b921fe802c2d5ab7963877a92c5dc7c5fcd', 'g06-products-20261127T123820Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 12:38:24.16036+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xef9015ef4711ecc4801bdf647d9a8fe93d438cd992e8444b868666300849b649', 'g06-orders-20261127T123825Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:38:26.062628+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g06-products', 'DJHK25O76MUTONUZBVPKXV4JL5/{{publication}}/{{oid categories}}/{{member categories}} DJHK25O76MUTONUZBVPKXV4JL5/{{publication}}/{{oid products}}/{{member products}}', 'g06-products-20261127t123820z', 'b411091d6b2f8511a69984020ddb6647', '', '', 0, NULL, 30, 30, '2026-11-27 12:38:20.140423+00', '2026-11-27 12:38:21.152142+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g06-events', 'DJHK25O76MUTONUZBVPKXV4JL5/{{publication}}/{{oid events}}/{{member events}}', 'g06-events-20261127t123820z', '8aaa17c268406d44148c95c40bf3cb5c', '', '', 0, NULL, 20, 20, '2026-11-27 12:38:20.580295+00', '2026-11-27 12:38:21.301364+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g06-orders', 'DJHK25O76MUTONUZBVPKXV4JL5/{{publication}}/{{oid orders}}/{{member orders}} DJHK25O76MUTONUZBVPKXV4JL5/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g06-orders-20261127t123820z', '99db6d4b74ca101f2bca015d0c83f8de', 'g06-orders-20261127t123825z', '0ad31120dadd7acb5be467d21b4636ab', 1, '{13,5}', 105, 240, '2026-11-27 12:38:25.27534+00', '2026-11-27 12:38:23.896536+00');

SELECT pg_catalog.setval('dbsync_ctrl.dead_letters_id_seq', 4, true);

ALTER TABLE ONLY dbsync_ctrl.dbsync_slots
    ADD CONSTRAINT dbsync_slots_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY dbsync_ctrl.dbsync_wmtable
    ADD CONSTRAINT dbsync_wmtable_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY dbsync_ctrl.dead_letters
    ADD CONSTRAINT dead_letters_document_key_version_key UNIQUE (document_key, version);

ALTER TABLE ONLY dbsync_ctrl.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

ALTER TABLE ONLY dbsync_ctrl.indices
    ADD CONSTRAINT indices_pkey PRIMARY KEY (name);

ALTER PUBLICATION dbsync_mypub ADD TABLE dbsync_ctrl.dbsync_wmtable;
