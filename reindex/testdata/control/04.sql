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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g04', '26NNW7BLRFVQGNILPQB7JY2FE6', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:28:37.336661+00', '2026-11-27 12:28:49.274904+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g04', 'high:V5TWYLOKJWOBPN53ER3LGMAOHC', '2026-11-27 12:28:49.332271+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xdc09bf8c22a2410de139724b726b5eb2fde1dce5f4353235d9500e86733df8cd', 'g04-products-20261127T122837Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet"}', '2026-11-27 12:28:39.566643+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x216f70d629d1f4f218ed507a883d5defe8b68460ed2ad959a729fc587b2c1ae8', 'g04-orders-20261127T122839Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:28:41.698764+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x251254fcba9ff3aee4e0ff867544883821a83b1130fc8350231a4154e8ae1b6c', 'g04-products-20261127T122837Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost"}', '2026-11-27 12:28:45.969456+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xe1a8601e4cb3dc9f50f99cf766cec7c727001c916329ef488b398b248b030619', 'g04-orders-20261127T122847Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:28:49.004789+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-products', '26NNW7BLRFVQGNILPQB7JY2FE6/{{publication}}/{{oid products}}/{{member products}}', 'g04-products-20261127t122837z', '816da3d95c048561cbf6402263a1ba3b', '', '', NULL, 30, 30, '2026-11-27 12:28:37.361674+00', '2026-11-27 12:28:39.825029+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-categories', '26NNW7BLRFVQGNILPQB7JY2FE6/{{publication}}/{{oid categories}}/{{member categories}}', 'g04-categories-20261127t122837z', '9ebfd27e47470bd61fa697f418639ea4', '', '', NULL, 5, 5, '2026-11-27 12:28:37.850494+00', '2026-11-27 12:28:40.293444+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-events', '26NNW7BLRFVQGNILPQB7JY2FE6/{{publication}}/{{oid events}}/{{member events}}', 'g04-events-20261127t122838z', '5c37def5f2585e4bd7c69c948875e979', '', '', NULL, 20, 20, '2026-11-27 12:28:38.134683+00', '2026-11-27 12:28:40.420561+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-sales', '26NNW7BLRFVQGNILPQB7JY2FE6/{{publication}}/{{oid orders}}/{{member orders}}', 'g04-sales-20261127t122838z', '232136769a62b902ca858dc2b0b919dc', '', '', NULL, 40, 40, '2026-11-27 12:28:38.676525+00', '2026-11-27 12:28:40.868644+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g04-orders', '26NNW7BLRFVQGNILPQB7JY2FE6/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g04-orders-20261127t122839z', '84675a76e2e3159a9b5bf5405a462163', 'g04-orders-20261127t122847z', '42148d38e1deed0cedf8bfabcb32dfbd', '{2,21}', 61, 200, '2026-11-27 12:28:47.757632+00', '2026-11-27 12:28:45.231337+00');

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
