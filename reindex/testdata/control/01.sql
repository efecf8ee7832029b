-- Commits: 357862b to 8955ab6 (the one of this dump).
-- The first: dbsync_wmtable, dbsync_slots, and dead_letters, which is as it is since 83292bd.
-- There was no command yet. This is left by a program built on the packages.
-- State: no table of indices. The index products is complete, of its own kind: all values are texts.
-- Dead letters: products 3 (filling) and 4 (stream).

CREATE SCHEMA dbsync_ctrl;

CREATE TABLE dbsync_ctrl.dbsync_slots (
    slot text NOT NULL,
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, system_identifier, timeline, confirmed, made_at, confirmed_at) VALUES ('control_g01', '{{system}}', 1, '{{confirmed}}', '2026-11-27 12:37:24.772643+00', '2026-11-27 12:37:24.993829+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g01', 'high:MBBOMLCWFK4JKOTWT6AMU6Y2N5', '2026-11-27 12:37:24.992986+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xfb35a918608d3cfbba7abec393380586711d3c34d0ca8e43dba975ed5b19b0f5', 'g01-products-20261127T123724Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"category_id":"4","id":"3","price_cents":"300","sku":"none yet","title":"product 3"}', '2026-11-27 12:37:25.051346+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\xcd033b63a33666c2c7a862b852fd298f4a22a10f78aa8d343524eeb6ebb57869', 'g01-products-20261127T123724Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"category_id":"5","id":"4","price_cents":"400","sku":"lost","title":"product 4"}', '2026-11-27 12:37:25.094288+00', 1);

SELECT pg_catalog.setval('dbsync_ctrl.dead_letters_id_seq', 2, true);

ALTER TABLE ONLY dbsync_ctrl.dbsync_slots
    ADD CONSTRAINT dbsync_slots_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY dbsync_ctrl.dbsync_wmtable
    ADD CONSTRAINT dbsync_wmtable_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY dbsync_ctrl.dead_letters
    ADD CONSTRAINT dead_letters_document_key_version_key UNIQUE (document_key, version);

ALTER TABLE ONLY dbsync_ctrl.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

ALTER PUBLICATION dbsync_mypub ADD TABLE dbsync_ctrl.dbsync_wmtable;
