-- Commits: f4282cb to d1e016a (the one of this dump).
-- New: the table indices, whose generation is that of the slot; dbsync_slots.generation.
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, made_at, confirmed_at) VALUES ('control_g02', 'JO52MV4HWCYQSXYTH6WRIEI6NU', '{{system}}', 1, '{{confirmed}}', '2026-11-27 12:37:29.272164+00', '2026-11-27 12:37:32.175101+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g02', 'high:ZFRPWK52NN6AC7HSFPCDNQGWUI', '2026-11-27 12:37:32.378221+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\x234b570080982576d174b3905e9671e63bc4e2cf495418c6fda9fce4a2e13933', 'g02-products-20261127T123729Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet"}', '2026-11-27 12:37:29.564271+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\xbac75cc248b92e0bf37a34c1b885ebb1717a1adcf87795732fa7f8ae6aa2dc7c', 'g02-orders-20261127T123729Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:30.387035+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\xf728fa0e0949988532083a4966624c612b95c388893aeb9718a19de8ca33cda6', 'g02-products-20261127T123729Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost"}', '2026-11-27 12:37:31.949322+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xb99bf1c55b842586e4ec3f53deb027290063fea9a4245dae2bcdf8354b966fca', 'g02-orders-20261127T123732Z', '2|3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''2|3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:37:32.30164+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g02-products', 'JO52MV4HWCYQSXYTH6WRIEI6NU', 'g02-products-20261127t123729z', '816da3d95c048561cbf6402263a1ba3b', '', '', NULL, 30, 30, '2026-11-27 12:37:29.29122+00', '2026-11-27 12:37:29.652386+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g02-categories', 'JO52MV4HWCYQSXYTH6WRIEI6NU', 'g02-categories-20261127t123729z', '9ebfd27e47470bd61fa697f418639ea4', '', '', NULL, 5, 5, '2026-11-27 12:37:29.328833+00', '2026-11-27 12:37:29.828421+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g02-orders', 'JO52MV4HWCYQSXYTH6WRIEI6NU', 'g02-orders-20261127t123729z', '84675a76e2e3159a9b5bf5405a462163', 'g02-orders-20261127t123732z', '42148d38e1deed0cedf8bfabcb32dfbd', '{2,25}', 65, 200, '2026-11-27 12:37:32.101889+00', '2026-11-27 12:37:31.846687+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g02-events', 'JO52MV4HWCYQSXYTH6WRIEI6NU', 'g02-events-20261127t123729z', '5c37def5f2585e4bd7c69c948875e979', '', '', NULL, 20, 20, '2026-11-27 12:37:29.367004+00', '2026-11-27 12:37:29.991191+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, building, building_fingerprint, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g02-sales', 'JO52MV4HWCYQSXYTH6WRIEI6NU', 'g02-sales-20261127t123729z', '232136769a62b902ca858dc2b0b919dc', '', '', NULL, 40, 40, '2026-11-27 12:37:29.414213+00', '2026-11-27 12:37:30.109456+00');

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
