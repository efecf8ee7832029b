-- Commits: 0b34f1d to 23cb4ed (the one of this dump).
-- New: indices.generation is that of the slot, followed by the oids of the publication, of the
-- table and of the table's entry in the publication. '' where changes are missing. From 9721a3d on
-- a slot that is lost has 0/0 as confirmed, which it has not here.
-- State: the indices products, categories, events and sales are complete; orders is complete and is
-- being filled anew, its note of how far it is in order_lines. Dead letters: products 3 (filling)
-- and 4 (stream), line 2 of order 3 in either index of orders. There were no requests yet.

CREATE SCHEMA dbsync_ctrl;

CREATE TABLE dbsync_ctrl.dbsync_slots (
    slot text NOT NULL,
    generation text NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    confirmed pg_lsn NOT NULL,
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
    cursor text[],
    rows_done bigint DEFAULT 0 NOT NULL,
    rows_total bigint DEFAULT '-1'::integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone
);

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, made_at, confirmed_at) VALUES ('control_g03', 'F3SJQ44XTZG7MSMFL5MOFWVGXX', '{{system}}', 1, '{{confirmed}}', '2026-11-27 12:37:37.742918+00', '2026-11-27 12:37:39.546117+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g03', 'high:TDC32ZC2WBOTRDSYQHKXKMV7LA', '2026-11-27 12:37:39.722024+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xf45636778365e7f396f9865008b530ec7b380b3e13facb2958678987d2a012f3', 'g03-products-20261127T123737Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet"}', '2026-11-27 12:37:37.977406+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x53e87b291ca5ffde04b20c7c65fb8202bde7799c08fb9e30b616556cd010f756', 'g03-orders-20261127T123737Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:38.621084+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x642abde7333de3a283fe73827eae016bc9ab91e5157b006637f8d9a426b91fc1', 'g03-products-20261127T123737Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost"}', '2026-11-27 12:37:39.337673+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\x19b71dc9c3105035b43c76fb2bd9e56d565c28593b8ef6c64901458f820bc45c', 'g03-orders-20261127T123739Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:39.654534+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g03-products', 'F3SJQ44XTZG7MSMFL5MOFWVGXX/{{publication}}/{{oid products}}/{{member products}}', 'g03-products-20261127t123737z', '816da3d95c048561cbf6402263a1ba3b', '', '', NULL, 30, 30, '2026-11-27 12:37:37.760361+00', '2026-11-27 12:37:38.019777+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g03-categories', 'F3SJQ44XTZG7MSMFL5MOFWVGXX/{{publication}}/{{oid categories}}/{{member categories}}', 'g03-categories-20261127t123737z', '9ebfd27e47470bd61fa697f418639ea4', '', '', NULL, 5, 5, '2026-11-27 12:37:37.815186+00', '2026-11-27 12:37:38.192341+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g03-events', 'F3SJQ44XTZG7MSMFL5MOFWVGXX/{{publication}}/{{oid events}}/{{member events}}', 'g03-events-20261127t123737z', '5c37def5f2585e4bd7c69c948875e979', '', '', NULL, 20, 20, '2026-11-27 12:37:37.847102+00', '2026-11-27 12:37:38.373554+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g03-orders', 'F3SJQ44XTZG7MSMFL5MOFWVGXX/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g03-orders-20261127t123737z', '84675a76e2e3159a9b5bf5405a462163', 'g03-orders-20261127t123739z', '42148d38e1deed0cedf8bfabcb32dfbd', '{2,29}', 69, 200, '2026-11-27 12:37:39.500394+00', '2026-11-27 12:37:39.289934+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g03-sales', 'F3SJQ44XTZG7MSMFL5MOFWVGXX/{{publication}}/{{oid orders}}/{{member orders}}', 'g03-sales-20261127t123737z', '232136769a62b902ca858dc2b0b919dc', '', '', NULL, 40, 40, '2026-11-27 12:37:37.880556+00', '2026-11-27 12:37:38.419453+00');

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
