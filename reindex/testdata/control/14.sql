-- Commits: 3c82428 to 0a71f3f (the one of this dump), and on.
-- New: table proofs; columns dbsync_slots.event_triggers, publication and published; the JSON of tables has what is
-- compared of the catalog, and version 2.
-- State: the indices products and events are complete; orders is complete and is being filled anew,
-- its note of how far it is in order_lines. Dead letters: products 3 (filling) and 4 (stream),
-- line 2 of order 3 in either index of orders. Requests: a refresh of events is done, one
-- of products is running, a rebuild of events and a refresh of two order lines are waiting.

CREATE SCHEMA dbsync_ctrl;

CREATE TABLE dbsync_ctrl.dbsync_slots (
    slot text NOT NULL,
    generation text NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    confirmed pg_lsn NOT NULL,
    lost text,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    confirmed_at timestamp with time zone DEFAULT now() NOT NULL,
    event_triggers boolean DEFAULT false NOT NULL,
    publication text,
    published oid[]
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
    live_mapping text DEFAULT ''::text NOT NULL,
    live_tables text DEFAULT ''::text NOT NULL,
    live_partitions text DEFAULT ''::text NOT NULL,
    building text DEFAULT ''::text NOT NULL,
    building_fingerprint text DEFAULT ''::text NOT NULL,
    building_mapping text DEFAULT ''::text NOT NULL,
    building_tables text DEFAULT ''::text NOT NULL,
    building_partitions text DEFAULT ''::text NOT NULL,
    source integer DEFAULT 0 NOT NULL,
    cursor text[],
    rows_done bigint DEFAULT 0 NOT NULL,
    rows_total bigint DEFAULT '-1'::integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    resumed_at timestamp with time zone DEFAULT now() NOT NULL,
    resumed_rows bigint DEFAULT 0 NOT NULL,
    finished_at timestamp with time zone
);

CREATE TABLE dbsync_ctrl.proofs (
    index_name text NOT NULL,
    physical text DEFAULT ''::text NOT NULL,
    unproven_since timestamp with time zone,
    unproven_noted timestamp with time zone,
    unproven_why text DEFAULT ''::text NOT NULL,
    walk_number bigint DEFAULT 0 NOT NULL,
    walk_began_at timestamp with time zone,
    walk_phase text DEFAULT ''::text NOT NULL,
    walk_source integer DEFAULT 0 NOT NULL,
    walk_cursor text[],
    walk_key text[],
    walk_next_seq_no bigint DEFAULT 0 NOT NULL,
    walk_last_seq_no bigint DEFAULT 0 NOT NULL,
    walk_rows bigint DEFAULT 0 NOT NULL,
    walk_documents bigint DEFAULT 0 NOT NULL,
    walk_total bigint DEFAULT '-1'::integer NOT NULL,
    walk_found bigint DEFAULT 0 NOT NULL,
    walk_repaired bigint DEFAULT 0 NOT NULL,
    walk_undecided bigint DEFAULT 0 NOT NULL,
    last_number bigint DEFAULT 0 NOT NULL,
    last_began_at timestamp with time zone,
    last_finished_at timestamp with time zone,
    last_rows bigint DEFAULT 0 NOT NULL,
    last_documents bigint DEFAULT 0 NOT NULL,
    last_found bigint DEFAULT 0 NOT NULL,
    last_repaired bigint DEFAULT 0 NOT NULL,
    last_undecided bigint DEFAULT 0 NOT NULL
);

CREATE TABLE dbsync_ctrl.requests (
    id bigint NOT NULL,
    slot text NOT NULL,
    kind text NOT NULL,
    index_name text NOT NULL,
    source text DEFAULT ''::text NOT NULL,
    condition text DEFAULT ''::text NOT NULL,
    keys text[],
    phase text DEFAULT 'waiting'::text NOT NULL,
    message text DEFAULT ''::text NOT NULL,
    rows_done bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone
);

ALTER TABLE dbsync_ctrl.requests ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME dbsync_ctrl.requests_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE dbsync_ctrl.schema_version (
    part text NOT NULL,
    version integer NOT NULL,
    migrated_at timestamp with time zone NOT NULL
);

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at, event_triggers, publication, published) VALUES ('control_g14', 'OFACT45MHFECD2UAMZZ2MFYQYB', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 19:57:32.323766+00', '2026-11-27 19:58:17.816705+00', false, 'dbsync_mypub', '{16388,16395,16407,16426,16433,16461}');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g14', 'high:AQ6PNMESK6MIVDEA7HLKJWPDGE', '2026-11-27 19:58:17.906257+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\x5d041ab2c8d11a97b572ccf87e67421154c33246b95466a5f0ed88f15269ea0a', 'g14-products-20261127T195732Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 19:57:35.223842+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\xbd87b30438aa905e09acf7b5de7b45b06b61287c99e24118f8646886be367ad3', 'g14-orders-20261127T195734Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 19:57:43.308353+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x4a77aa13d775e7521dac49c378271d7966de6bfce8525536c79036aff9d4e25b', 'g14-products-20261127T195732Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 19:57:59.265328+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\xb08aada91d00614a00ab1c18016b7e6cb8a5a9cda541088381404ecfeac4ee58', 'g14-orders-20261127T195806Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 19:58:13.20763+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g14-products', 'OFACT45MHFECD2UAMZZ2MFYQYB/{{publication}}/{{oid categories}}/{{member categories}} OFACT45MHFECD2UAMZZ2MFYQYB/{{publication}}/{{oid products}}/{{member products}}', 'g14-products-20261127t195732z', '1-23d95faa85b11bd661475b3013f7beb4', '{"version":1,"name":"g14-products","sources":[{"table":{"schema":"public","name":"products"},"fields":[{"name":"sku","column":"sku","params":{"type":"integer"}}],"include":[{"name":"category","table":{"schema":"public","name":"categories"},"on":[{"near":"category_id","far":"id"}],"fields":[{"name":"name","column":"name"}],"listed":true}]}]}', '{"version":2,"tables":{"public.categories":{"oid":{{oid categories}},"schema":"public","name":"categories","columns":[{"number":1,"name":"id","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"name","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","file":"16388+16391","published":"16486 800 16487 800","estimated_rows":5},"public.products":{"oid":{{oid products}},"schema":"public","name":"products","columns":[{"number":1,"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"title","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100},{"number":3,"name":"price_cents","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":4,"name":"category_id","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1}},{"number":5,"name":"sku","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"collation":100}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","file":"16395+16398","published":"16486 800 16491 800","estimated_rows":30}}}', '{"version":1}', '', '', '', '', '', 0, NULL, 30, 30, '2026-11-27 19:57:32.731598+00', '2026-11-27 19:57:34.840073+00', 0, '2026-11-27 19:57:37.206018+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g14-events', 'OFACT45MHFECD2UAMZZ2MFYQYB/{{publication}}/{{oid events}}/{{member events}}', 'g14-events-20261127t195733z', '1-dc430d970ec1ecfa291cb69056b172bc', '{"version":1,"name":"g14-events","sources":[{"table":{"schema":"public","name":"events"}}]}', '{"version":2,"tables":{"public.events":{"oid":{{oid events}},"schema":"public","name":"events","columns":[{"number":1,"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"day","type":{"oid":1082,"name":"date","schema":"pg_catalog","plain":"date","kind":"b","category":"D","delim":",","modifier":-1},"not_null":true},{"number":3,"name":"kind","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["id","day"],"identity":{"kind":"d","columns":["id","day"]},"user":"postgres","partitioned":true,"published":"16486 800 16488 800","estimated_rows":20}}}', '{"version":1,"leaves":{"public.events":{"{{oid events_2024}}":"{{leaf events_2024}}","{{oid events_2025}}":"{{leaf events_2025}}"}}}', '', '', '', '', '', 0, NULL, 20, 20, '2026-11-27 19:57:33.666607+00', '2026-11-27 19:57:34.855412+00', 0, '2026-11-27 19:57:37.560734+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g14-orders', 'OFACT45MHFECD2UAMZZ2MFYQYB/{{publication}}/{{oid orders}}/{{member orders}} OFACT45MHFECD2UAMZZ2MFYQYB/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g14-orders-20261127t195734z', '1-90f506bd039b200d78657d83c6d0a6c7', '{"version":1,"name":"g14-orders","sources":[{"table":{"schema":"public","name":"orders"},"id":["id"],"literals":["order-",""]},{"table":{"schema":"public","name":"order_lines"},"id":["line","order_id"],"literals":["line-","-",""],"fields":[{"name":"quantity","column":"quantity","params":{"type":"byte"}},{"name":"note","column":"note","params":{"type":"keyword"}}]}]}', '{"version":2,"tables":{"public.order_lines":{"oid":{{oid order_lines}},"schema":"public","name":"order_lines","columns":[{"number":1,"name":"order_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"line","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":3,"name":"product_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":4,"name":"quantity","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":5,"name":"note","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["order_id","line"],"identity":{"kind":"d","columns":["order_id","line"]},"user":"postgres","partitioned":true,"published":"16486 800 16489 800","estimated_rows":200},"public.orders":{"oid":{{oid orders}},"schema":"public","name":"orders","columns":[{"number":1,"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"status","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","file":"16426+16429","published":"16486 800 16490 800","estimated_rows":40}}}', '{"version":1,"leaves":{"public.order_lines":{"{{oid order_lines_1}}":"{{leaf order_lines_1}}","{{oid order_lines_2}}":"{{leaf order_lines_2}}"}}}', 'g14-orders-20261127t195806z', '1-afe7175d18afe8fb434029115b81f34b', '{"version":1,"name":"g14-orders","sources":[{"table":{"schema":"public","name":"orders"},"id":["id"],"literals":["order-",""]},{"table":{"schema":"public","name":"order_lines"},"id":["line","order_id"],"literals":["line-","-",""],"fields":[{"name":"quantity","column":"quantity","params":{"type":"byte"}},{"name":"note","column":"note","params":{"type":"text"}}]}]}', '{"version":2,"tables":{"public.order_lines":{"oid":{{oid order_lines}},"schema":"public","name":"order_lines","columns":[{"number":1,"name":"order_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"line","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":3,"name":"product_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":4,"name":"quantity","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":5,"name":"note","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["order_id","line"],"identity":{"kind":"d","columns":["order_id","line"]},"user":"postgres","partitioned":true,"published":"16486 800 16489 800","estimated_rows":200},"public.orders":{"oid":{{oid orders}},"schema":"public","name":"orders","columns":[{"number":1,"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"number":2,"name":"status","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true,"collation":100}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","file":"16426+16429","published":"16486 800 16490 800","estimated_rows":40}}}', '{"version":1,"leaves":{"public.order_lines":{"{{oid order_lines_1}}":"{{leaf order_lines_1}}","{{oid order_lines_2}}":"{{leaf order_lines_2}}"}},"unlisted":true}', 1, '{13,1}', 101, 240, '2026-11-27 19:58:06.48595+00', '2026-11-27 19:58:07.616295+00', 0, '2026-11-27 19:57:57.937077+00');

INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (1, 'control_g14', 'refresh', 'g14-events', 'public.events', 'id <= 3', NULL, 'done', '', 3, '2026-11-27 19:58:00.938008+00', '2026-11-27 19:58:01.841922+00');
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (2, 'control_g14', 'refresh', 'g14-products', '', 'id <= 20', NULL, 'running', '', 0, '2026-11-27 19:58:10.024099+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (3, 'control_g14', 'reindex', 'g14-events', '', '', NULL, 'waiting', '', 0, '2026-11-27 19:58:18.034666+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (4, 'control_g14', 'refresh', 'g14-orders', 'public.order_lines line-', '', '{{1,2},{3,4}}', 'waiting', '', 0, '2026-11-27 19:58:18.543655+00', NULL);

INSERT INTO dbsync_ctrl.schema_version (part, version, migrated_at) VALUES ('dbsync', 3, '2026-11-27 19:57:32.305153+00');
INSERT INTO dbsync_ctrl.schema_version (part, version, migrated_at) VALUES ('tidemark', 3, '2026-11-27 19:57:32.400778+00');

SELECT pg_catalog.setval('dbsync_ctrl.dead_letters_id_seq', 4, true);

SELECT pg_catalog.setval('dbsync_ctrl.requests_id_seq', 4, true);

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

ALTER TABLE ONLY dbsync_ctrl.proofs
    ADD CONSTRAINT proofs_pkey PRIMARY KEY (index_name);

ALTER TABLE ONLY dbsync_ctrl.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY dbsync_ctrl.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (part);

ALTER PUBLICATION dbsync_mypub ADD TABLE dbsync_ctrl.dbsync_wmtable;
