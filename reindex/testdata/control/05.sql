-- Commits: 4148afa to 7e2a10c (the one of this dump).
-- New: indices.source; generation is that of every table, sorted, with blanks between; the
-- fingerprint is made of other things.
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g05', 'GVDCXO33RU5LJV2RWQ7BVGPSRG', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:38:01.992646+00', '2026-11-27 12:38:07.060327+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g05', 'high:PVN2F6WIH6KUYDPPWLNVZLMJF4', '2026-11-27 12:38:07.845571+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xb3724663b79829db44a89838d30db1cd96e119ffbaac1c013145dc22f27f48e4', 'g05-products-20261127T123802Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 12:38:02.656003+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\xf461e7e3d6271257869e7292e0a7b52ffcf43a0f1a22df6b7b45e5c8e7640cd0', 'g05-orders-20261127T123802Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:38:03.631535+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x9f510bbc955d310596154abfb62726d421c11f9cfb15ed6c31addd3db7a5808f', 'g05-products-20261127T123802Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 12:38:05.55343+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xaaea1f691732d18c0572111325bd584450026d0199ac21ae32b8fc1e28bc97c7', 'g05-orders-20261127T123806Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:38:07.670301+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g05-products', 'GVDCXO33RU5LJV2RWQ7BVGPSRG/{{publication}}/{{oid categories}}/{{member categories}} GVDCXO33RU5LJV2RWQ7BVGPSRG/{{publication}}/{{oid products}}/{{member products}}', 'g05-products-20261127t123802z', 'b411091d6b2f8511a69984020ddb6647', '', '', 0, NULL, 30, 30, '2026-11-27 12:38:02.022987+00', '2026-11-27 12:38:02.838107+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g05-events', 'GVDCXO33RU5LJV2RWQ7BVGPSRG/{{publication}}/{{oid events}}/{{member events}}', 'g05-events-20261127t123802z', '8aaa17c268406d44148c95c40bf3cb5c', '', '', 0, NULL, 20, 20, '2026-11-27 12:38:02.177289+00', '2026-11-27 12:38:02.987507+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g05-orders', 'GVDCXO33RU5LJV2RWQ7BVGPSRG/{{publication}}/{{oid orders}}/{{member orders}} GVDCXO33RU5LJV2RWQ7BVGPSRG/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g05-orders-20261127t123802z', '99db6d4b74ca101f2bca015d0c83f8de', 'g05-orders-20261127t123806z', '0ad31120dadd7acb5be467d21b4636ab', 1, '{2,23}', 103, 240, '2026-11-27 12:38:06.832958+00', '2026-11-27 12:38:05.142769+00');

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
