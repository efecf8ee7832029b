-- Commits: 4949cc0 to 063daa5 (the one of this dump), and on.
-- New: schema_version; the JSON of mappings, tables and partitions has names of its own and a version.
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g13', 'X4Q5G72OQSHWULG57PNCIIX6AC', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 16:58:24.910381+00', '2026-11-27 16:58:48.184337+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g13', 'high:DLDWLO5D4KPLNIIVXUXBGRYW6I', '2026-11-27 16:58:48.982711+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xeab0400e77a4a7527a38829e272d633a559e5dcdedaa7e31d314c1b9c97242eb', 'g13-products-20261127T165825Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 16:58:28.480958+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x678c7be1fd08278c384331c95295006b1444c39c547e4dd8729746d916857740', 'g13-orders-20261127T165827Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 16:58:33.754156+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\xc75bb2f87436bd6dee97e9cac6268a0005e07d89064115623e21e95685407e73', 'g13-products-20261127T165825Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 16:58:43.181011+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\x9decb29d9a24357e95dac2fcf33e8e7977e574d79cfa1080452cedb46bcefc5a', 'g13-orders-20261127T165845Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 16:58:47.706522+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g13-events', 'X4Q5G72OQSHWULG57PNCIIX6AC/{{publication}}/{{oid events}}/{{member events}}', 'g13-events-20261127t165826z', '1-dc430d970ec1ecfa291cb69056b172bc', '{"version":1,"name":"g13-events","sources":[{"table":{"schema":"public","name":"events"}}]}', '{"version":1,"tables":{"public.events":{"oid":{{oid events}},"schema":"public","name":"events","columns":[{"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"day","type":{"oid":1082,"name":"date","schema":"pg_catalog","plain":"date","kind":"b","category":"D","delim":",","modifier":-1},"not_null":true},{"name":"kind","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["id","day"],"identity":{"kind":"d","columns":["id","day"]},"user":"postgres","partitioned":true,"estimated_rows":20}}}', '{"version":1,"leaves":{"public.events":{"{{oid events_2024}}":"{{leaf events_2024}}","{{oid events_2025}}":"{{leaf events_2025}}"}}}', '', '', '', '', '', 0, NULL, 20, 20, '2026-11-27 16:58:26.898585+00', '2026-11-27 16:58:28.235115+00', 0, '2026-11-27 16:58:29.824184+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g13-products', 'X4Q5G72OQSHWULG57PNCIIX6AC/{{publication}}/{{oid categories}}/{{member categories}} X4Q5G72OQSHWULG57PNCIIX6AC/{{publication}}/{{oid products}}/{{member products}}', 'g13-products-20261127t165825z', '1-23d95faa85b11bd661475b3013f7beb4', '{"version":1,"name":"g13-products","sources":[{"table":{"schema":"public","name":"products"},"fields":[{"name":"sku","column":"sku","params":{"type":"integer"}}],"include":[{"name":"category","table":{"schema":"public","name":"categories"},"on":[{"near":"category_id","far":"id"}],"fields":[{"name":"name","column":"name"}],"listed":true}]}]}', '{"version":1,"tables":{"public.categories":{"oid":{{oid categories}},"schema":"public","name":"categories","columns":[{"name":"id","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"name","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","estimated_rows":5},"public.products":{"oid":{{oid products}},"schema":"public","name":"products","columns":[{"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"title","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true},{"name":"price_cents","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"category_id","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1}},{"name":"sku","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1}}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","estimated_rows":30}}}', '{"version":1}', '', '', '', '', '', 0, NULL, 30, 30, '2026-11-27 16:58:25.221788+00', '2026-11-27 16:58:28.240643+00', 0, '2026-11-27 16:58:30.258835+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, live_partitions, building, building_fingerprint, building_mapping, building_tables, building_partitions, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g13-orders', 'X4Q5G72OQSHWULG57PNCIIX6AC/{{publication}}/{{oid orders}}/{{member orders}} X4Q5G72OQSHWULG57PNCIIX6AC/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g13-orders-20261127t165827z', '1-90f506bd039b200d78657d83c6d0a6c7', '{"version":1,"name":"g13-orders","sources":[{"table":{"schema":"public","name":"orders"},"id":["id"],"literals":["order-",""]},{"table":{"schema":"public","name":"order_lines"},"id":["line","order_id"],"literals":["line-","-",""],"fields":[{"name":"quantity","column":"quantity","params":{"type":"byte"}},{"name":"note","column":"note","params":{"type":"keyword"}}]}]}', '{"version":1,"tables":{"public.order_lines":{"oid":{{oid order_lines}},"schema":"public","name":"order_lines","columns":[{"name":"order_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"line","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"product_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"quantity","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"note","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["order_id","line"],"identity":{"kind":"d","columns":["order_id","line"]},"user":"postgres","partitioned":true,"estimated_rows":200},"public.orders":{"oid":{{oid orders}},"schema":"public","name":"orders","columns":[{"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"status","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","estimated_rows":40}}}', '{"version":1,"leaves":{"public.order_lines":{"{{oid order_lines_1}}":"{{leaf order_lines_1}}","{{oid order_lines_2}}":"{{leaf order_lines_2}}"}}}', 'g13-orders-20261127t165845z', '1-afe7175d18afe8fb434029115b81f34b', '{"version":1,"name":"g13-orders","sources":[{"table":{"schema":"public","name":"orders"},"id":["id"],"literals":["order-",""]},{"table":{"schema":"public","name":"order_lines"},"id":["line","order_id"],"literals":["line-","-",""],"fields":[{"name":"quantity","column":"quantity","params":{"type":"byte"}},{"name":"note","column":"note","params":{"type":"text"}}]}]}', '{"version":1,"tables":{"public.order_lines":{"oid":{{oid order_lines}},"schema":"public","name":"order_lines","columns":[{"name":"order_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"line","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"product_id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"quantity","type":{"oid":23,"name":"integer","schema":"pg_catalog","plain":"int4","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"note","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["order_id","line"],"identity":{"kind":"d","columns":["order_id","line"]},"user":"postgres","partitioned":true,"estimated_rows":200},"public.orders":{"oid":{{oid orders}},"schema":"public","name":"orders","columns":[{"name":"id","type":{"oid":20,"name":"bigint","schema":"pg_catalog","plain":"int8","kind":"b","category":"N","delim":",","modifier":-1},"not_null":true},{"name":"status","type":{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1},"not_null":true}],"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"postgres","estimated_rows":40}}}', '{"version":1,"leaves":{"public.order_lines":{"{{oid order_lines_1}}":"{{leaf order_lines_1}}","{{oid order_lines_2}}":"{{leaf order_lines_2}}"}},"unlisted":true}', 1, '{13,1}', 101, 240, '2026-11-27 16:58:45.165675+00', '2026-11-27 16:58:46.046027+00', 0, '2026-11-27 16:58:42.754162+00');

INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (1, 'control_g13', 'refresh', 'g13-events', 'public.events', 'id <= 3', NULL, 'done', '', 3, '2026-11-27 16:58:43.510857+00', '2026-11-27 16:58:43.683276+00');
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (2, 'control_g13', 'refresh', 'g13-products', '', 'id <= 20', NULL, 'running', '', 0, '2026-11-27 16:58:46.525058+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (3, 'control_g13', 'reindex', 'g13-events', '', '', NULL, 'waiting', '', 0, '2026-11-27 16:58:49.073673+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (4, 'control_g13', 'refresh', 'g13-orders', 'public.order_lines line-', '', '{{1,2},{3,4}}', 'waiting', '', 0, '2026-11-27 16:58:49.234665+00', NULL);

INSERT INTO dbsync_ctrl.schema_version (part, version, migrated_at) VALUES ('dbsync', 1, '2026-11-27 16:58:24.762258+00');
INSERT INTO dbsync_ctrl.schema_version (part, version, migrated_at) VALUES ('tidemark', 2, '2026-11-27 16:58:24.966894+00');

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

ALTER TABLE ONLY dbsync_ctrl.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY dbsync_ctrl.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (part);

ALTER PUBLICATION dbsync_mypub ADD TABLE dbsync_ctrl.dbsync_wmtable;
