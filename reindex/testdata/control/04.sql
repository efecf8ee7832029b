-- Commits: 4063e6a to 7524704 (the one of this dump).
-- New: dbsync_slots.lost.
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
    cursor text[],
    rows_done bigint DEFAULT 0 NOT NULL,
    rows_total bigint DEFAULT '-1'::integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone
);

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g04', 'LRCJ464NHIVMLILQP65OF2O4I7', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:37:47.305184+00', '2026-11-27 12:37:52.498669+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g04', 'high:5BL6XM3A4OSOJNYYXVRFELGCZ3', '2026-11-27 12:37:52.839451+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\x80f6daed1c9b88fd16ca5cc5a4e2b08f9529e94de35fe328e3e4ad0060b22161', 'g04-products-20261127T123747Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet"}', '2026-11-27 12:37:48.213425+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x7bbcb84eed44dc5edaf2cf08261a655ce1f537a594754acd9dfcabb627c6c469', 'g04-orders-20261127T123748Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:49.140998+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\xf7c7b34a6eac97c6c0bb332309c0c062a0df5b7bdca634f9b2d67536b9c0c1ae', 'g04-products-20261127T123747Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost"}', '2026-11-27 12:37:51.172426+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xa803a6492a934042902e0fec981fdc9a9cd1b6d25e221a01e72f4b83fe11fec6', 'g04-orders-20261127T123752Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:52.757637+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-products', 'LRCJ464NHIVMLILQP65OF2O4I7/{{publication}}/{{oid products}}/{{member products}}', 'g04-products-20261127t123747z', '816da3d95c048561cbf6402263a1ba3b', '', '', NULL, 30, 30, '2026-11-27 12:37:47.320161+00', '2026-11-27 12:37:48.346657+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-categories', 'LRCJ464NHIVMLILQP65OF2O4I7/{{publication}}/{{oid categories}}/{{member categories}}', 'g04-categories-20261127t123747z', '9ebfd27e47470bd61fa697f418639ea4', '', '', NULL, 5, 5, '2026-11-27 12:37:47.361501+00', '2026-11-27 12:37:48.468216+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-orders', 'LRCJ464NHIVMLILQP65OF2O4I7/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g04-orders-20261127t123748z', '84675a76e2e3159a9b5bf5405a462163', 'g04-orders-20261127t123752z', '42148d38e1deed0cedf8bfabcb32dfbd', '{2,28}', 68, 200, '2026-11-27 12:37:52.354921+00', '2026-11-27 12:37:50.780418+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-events', 'LRCJ464NHIVMLILQP65OF2O4I7/{{publication}}/{{oid events}}/{{member events}}', 'g04-events-20261127t123747z', '5c37def5f2585e4bd7c69c948875e979', '', '', NULL, 20, 20, '2026-11-27 12:37:47.749124+00', '2026-11-27 12:37:48.625147+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-sales', 'LRCJ464NHIVMLILQP65OF2O4I7/{{publication}}/{{oid orders}}/{{member orders}}', 'g04-sales-20261127t123747z', '232136769a62b902ca858dc2b0b919dc', '', '', NULL, 40, 40, '2026-11-27 12:37:47.894868+00', '2026-11-27 12:37:48.734241+00');

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
