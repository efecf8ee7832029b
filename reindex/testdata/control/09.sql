-- Commits: 581db58 to 6d7d7d8 (the one of this dump).
-- New: indices.resumed_at and resumed_rows.
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
    building text DEFAULT ''::text NOT NULL,
    building_fingerprint text DEFAULT ''::text NOT NULL,
    building_mapping text DEFAULT ''::text NOT NULL,
    building_tables text DEFAULT ''::text NOT NULL,
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g09', '2NVPWLW66UQWIAPD44N4UIO56P', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:39:38.869469+00', '2026-11-27 12:39:46.389873+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g09', 'high:4ZVPFW54P3QGLFXXWP4454NTQJ', '2026-11-27 12:39:47.27154+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\xda0db738e519911e74d5465ef5a4deae02df9dfe43055987f03404ae4e9a625d', 'g09-products-20261127T123938Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 12:39:40.10581+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\x3b74a9df6572ed6312c3a7a97293d90f5791bce7807df37ecd278da3ed80ef3d', 'g09-orders-20261127T123939Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:39:41.061923+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x1d490b67f7ea063d9f440e2d23fdd7f326782e42ac73cf4189b3a896913a10a4', 'g09-products-20261127T123938Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 12:39:43.667873+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\x7d4c252509d9701288288b6c2486ea214f8826a45760810d19c8a4283cb2a3f6', 'g09-orders-20261127T123946Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:39:46.774556+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, building, building_fingerprint, building_mapping, building_tables, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g09-products', '2NVPWLW66UQWIAPD44N4UIO56P/{{publication}}/{{oid categories}}/{{member categories}} 2NVPWLW66UQWIAPD44N4UIO56P/{{publication}}/{{oid products}}/{{member products}}', 'g09-products-20261127t123938z', 'b411091d6b2f8511a69984020ddb6647', '{"Name":"g09-products","Sources":[{"Table":{"Schema":"public","Name":"products"},"ID":null,"Routing":"","Where":"","Fields":[{"Name":"sku","Omit":false,"Column":"sku","As":"","Params":{"type":"integer"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":[{"Name":"category","Table":{"Schema":"public","Name":"categories"},"On":[{"Near":"category_id","Far":"id"}],"Through":null,"Many":"","Value":"","Aggregate":"","Column":"","Fields":[{"Name":"name","Omit":false,"Column":"name","As":"","Params":null,"Expr":"","Constant":null,"Group":null}],"Listed":true,"Include":null,"OrderBy":null,"Limit":0,"Where":""}],"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":10000,"KeepOld":0,"MaxRowsPerSecond":0}}', '{"public.categories":{"OID":{{oid categories}},"Schema":"public","Name":"categories","Columns":[{"Name":"id","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"name","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["id"],"Identity":{"Kind":100,"Columns":["id"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":false,"Root":{"Schema":"","Name":""},"EstimatedRows":5},"public.products":{"OID":{{oid products}},"Schema":"public","Name":"products","Columns":[{"Name":"id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"title","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"price_cents","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"category_id","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":false,"Generated":false,"Default":false},{"Name":"sku","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":false,"Generated":false,"Default":false}],"PrimaryKey":["id"],"Identity":{"Kind":100,"Columns":["id"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":false,"Root":{"Schema":"","Name":""},"EstimatedRows":30}}', '', '', '', '', 0, NULL, 30, 30, '2026-11-27 12:39:38.935179+00', '2026-11-27 12:39:40.014901+00', 0, '2026-11-27 12:39:40.446044+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, building, building_fingerprint, building_mapping, building_tables, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g09-events', '2NVPWLW66UQWIAPD44N4UIO56P/{{publication}}/{{oid events}}/{{member events}}', 'g09-events-20261127t123939z', '8aaa17c268406d44148c95c40bf3cb5c', '{"Name":"g09-events","Sources":[{"Table":{"Schema":"public","Name":"events"},"ID":null,"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":10000,"KeepOld":0,"MaxRowsPerSecond":0}}', '{"public.events":{"OID":{{oid events}},"Schema":"public","Name":"events","Columns":[{"Name":"id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"day","Type":{"OID":1082,"Name":"date","Schema":"pg_catalog","Plain":"date","Extension":"","Kind":98,"Category":68,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"kind","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["id","day"],"Identity":{"Kind":100,"Columns":["id","day"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":true,"Root":{"Schema":"","Name":""},"EstimatedRows":20}}', '', '', '', '', 0, NULL, 20, 20, '2026-11-27 12:39:39.434798+00', '2026-11-27 12:39:40.08551+00', 0, '2026-11-27 12:39:40.523304+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, live_tables, building, building_fingerprint, building_mapping, building_tables, source, cursor, rows_done, rows_total, started_at, resumed_at, resumed_rows, finished_at) VALUES ('g09-orders', '2NVPWLW66UQWIAPD44N4UIO56P/{{publication}}/{{oid orders}}/{{member orders}} 2NVPWLW66UQWIAPD44N4UIO56P/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g09-orders-20261127t123939z', '99db6d4b74ca101f2bca015d0c83f8de', '{"Name":"g09-orders","Sources":[{"Table":{"Schema":"public","Name":"orders"},"ID":["id"],"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":["order-",""]},{"Table":{"Schema":"public","Name":"order_lines"},"ID":["line","order_id"],"Routing":"","Where":"","Fields":[{"Name":"quantity","Omit":false,"Column":"quantity","As":"","Params":{"type":"byte"},"Expr":"","Constant":null,"Group":null},{"Name":"note","Omit":false,"Column":"note","As":"","Params":{"type":"keyword"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":null,"Literals":["line-","-",""]}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":1,"KeepOld":0,"MaxRowsPerSecond":0}}', '{"public.order_lines":{"OID":{{oid order_lines}},"Schema":"public","Name":"order_lines","Columns":[{"Name":"order_id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"line","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"product_id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"quantity","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"note","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["order_id","line"],"Identity":{"Kind":100,"Columns":["order_id","line"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":true,"Root":{"Schema":"","Name":""},"EstimatedRows":200},"public.orders":{"OID":{{oid orders}},"Schema":"public","Name":"orders","Columns":[{"Name":"id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"status","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["id"],"Identity":{"Kind":100,"Columns":["id"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":false,"Root":{"Schema":"","Name":""},"EstimatedRows":40}}', 'g09-orders-20261127t123946z', '0ad31120dadd7acb5be467d21b4636ab', '{"Name":"g09-orders","Sources":[{"Table":{"Schema":"public","Name":"orders"},"ID":["id"],"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":["order-",""]},{"Table":{"Schema":"public","Name":"order_lines"},"ID":["line","order_id"],"Routing":"","Where":"","Fields":[{"Name":"quantity","Omit":false,"Column":"quantity","As":"","Params":{"type":"byte"},"Expr":"","Constant":null,"Group":null},{"Name":"note","Omit":false,"Column":"note","As":"","Params":{"type":"text"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":null,"Literals":["line-","-",""]}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":1,"KeepOld":0,"MaxRowsPerSecond":0}}', '{"public.order_lines":{"OID":{{oid order_lines}},"Schema":"public","Name":"order_lines","Columns":[{"Name":"order_id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"line","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"product_id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"quantity","Type":{"OID":23,"Name":"integer","Schema":"pg_catalog","Plain":"int4","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"note","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["order_id","line"],"Identity":{"Kind":100,"Columns":["order_id","line"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":true,"Root":{"Schema":"","Name":""},"EstimatedRows":200},"public.orders":{"OID":{{oid orders}},"Schema":"public","Name":"orders","Columns":[{"Name":"id","Type":{"OID":20,"Name":"bigint","Schema":"pg_catalog","Plain":"int8","Extension":"","Kind":98,"Category":78,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false},{"Name":"status","Type":{"OID":25,"Name":"text","Schema":"pg_catalog","Plain":"text","Extension":"","Kind":98,"Category":83,"Elem":null,"Base":null,"Attributes":null,"Canonical":false,"Delim":44,"Modifier":-1,"Fraction":0},"NotNull":true,"Generated":false,"Default":false}],"PrimaryKey":["id"],"Identity":{"Kind":100,"Columns":["id"]},"Unique":null,"RowSecurity":false,"User":"{{user}}","Unlogged":false,"Partitioned":false,"Root":{"Schema":"","Name":""},"EstimatedRows":40}}', 1, '{13,3}', 103, 240, '2026-11-27 12:39:46.128335+00', '2026-11-27 12:39:46.376677+00', 0, '2026-11-27 12:39:42.933193+00');

INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (1, 'control_g09', 'refresh', 'g09-events', 'public.events', 'id <= 3', NULL, 'done', '', 3, '2026-11-27 12:39:43.790038+00', '2026-11-27 12:39:43.89218+00');
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (2, 'control_g09', 'refresh', 'g09-products', '', 'id <= 20', NULL, 'running', '', 0, '2026-11-27 12:39:46.618044+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (3, 'control_g09', 'reindex', 'g09-events', '', '', NULL, 'waiting', '', 0, '2026-11-27 12:39:47.336473+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (4, 'control_g09', 'refresh', 'g09-orders', 'public.order_lines', '', '{{1,2},{3,4}}', 'waiting', '', 0, '2026-11-27 12:39:47.448419+00', NULL);

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

ALTER PUBLICATION dbsync_mypub ADD TABLE dbsync_ctrl.dbsync_wmtable;
