-- Commits: ff84e88 to b9b2489 (the one of this dump).
-- New: the table requests; indices.live_mapping and building_mapping, JSON of mapping.Index.
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
    building text DEFAULT ''::text NOT NULL,
    building_fingerprint text DEFAULT ''::text NOT NULL,
    building_mapping text DEFAULT ''::text NOT NULL,
    source integer DEFAULT 0 NOT NULL,
    cursor text[],
    rows_done bigint DEFAULT 0 NOT NULL,
    rows_total bigint DEFAULT '-1'::integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
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

INSERT INTO dbsync_ctrl.dbsync_slots (slot, generation, system_identifier, timeline, confirmed, lost, made_at, confirmed_at) VALUES ('control_g07', 'O76FWO4HZIYMWE43GAPUV4MFL7', '{{system}}', 1, '{{confirmed}}', NULL, '2026-11-27 12:29:43.279154+00', '2026-11-27 12:29:47.800858+00');

INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token, at) VALUES ('control_g07', 'high:IFU2QXGI2RU56JCEMV755KZOAQ', '2026-11-27 12:29:48.675106+00');

INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (1, '\x6bfa8efbdc853561372c71b335d444da01279558ffd9fbac72af0010f568f541', 'g07-products-20261127T122943Z', '3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''3''. Preview of field''s value: ''none yet'': For input string: "none yet"', '{"id":3,"title":"product 3","price_cents":300,"category_id":4,"sku":"none yet","category":{"name":"category 4"}}', '2026-11-27 12:29:43.966043+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (2, '\xadcd25eae75cd141edc12704a99f274ed60b2da2ff4ce3b2924a921900d2b0c3', 'g07-orders-20261127T122943Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:29:44.586952+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (3, '\x5dd712a180ad0a8fca10aefa28e957b6c93e5c78e3b2f9361e7862e240d5a729', 'g07-products-20261127T122943Z', '4', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [sku] of type [integer] in document with id ''4''. Preview of field''s value: ''lost'': For input string: "lost"', '{"id":4,"title":"product 4","price_cents":400,"category_id":5,"sku":"lost","category":{"name":"category 5"}}', '2026-11-27 12:29:46.704692+00', 1);
INSERT INTO dbsync_ctrl.dead_letters (id, document_key, index_name, doc_id, routing, operation, version, status, type, reason, document, created_at, attempts) OVERRIDING SYSTEM VALUE VALUES (4, '\x39f8b9732d65e6fcbaf59b55b9c6cacd56d4814fd3669527f68bc9bb5ae4f4e7', 'g07-orders-20261127T122947Z', 'line-2-3', '', 'index', '{{confirmed}}', 400, 'mapper_parsing_exception', 'failed to parse field [quantity] of type [byte] in document with id ''line-2-3''. Preview of field''s value: ''1000'': Value [1000] is out of range for a byte', '{"order_id":3,"line":2,"product_id":7,"quantity":1000,"note":"note 3 2"}', '2026-11-27 12:29:48.301556+00', 1);

INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, building, building_fingerprint, building_mapping, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g07-products', 'O76FWO4HZIYMWE43GAPUV4MFL7/{{publication}}/{{oid categories}}/{{member categories}} O76FWO4HZIYMWE43GAPUV4MFL7/{{publication}}/{{oid products}}/{{member products}}', 'g07-products-20261127t122943z', 'b411091d6b2f8511a69984020ddb6647', '{"Name":"g07-products","Sources":[{"Table":{"Schema":"public","Name":"products"},"ID":null,"Routing":"","Where":"","Fields":[{"Name":"sku","Omit":false,"Column":"sku","As":"","Params":{"type":"integer"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":[{"Name":"category","Table":{"Schema":"public","Name":"categories"},"On":[{"Near":"category_id","Far":"id"}],"Through":null,"Many":"","Value":"","Aggregate":"","Column":"","Fields":[{"Name":"name","Omit":false,"Column":"name","As":"","Params":null,"Expr":"","Constant":null,"Group":null}],"Listed":true,"Include":null,"OrderBy":null,"Limit":0,"Where":""}],"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":10000,"KeepOld":0,"MaxRowsPerSecond":0}}', '', '', '', 0, NULL, 30, 30, '2026-11-27 12:29:43.297794+00', '2026-11-27 12:29:44.292484+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, building, building_fingerprint, building_mapping, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g07-events', 'O76FWO4HZIYMWE43GAPUV4MFL7/{{publication}}/{{oid events}}/{{member events}}', 'g07-events-20261127t122943z', '8aaa17c268406d44148c95c40bf3cb5c', '{"Name":"g07-events","Sources":[{"Table":{"Schema":"public","Name":"events"},"ID":null,"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":null}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":10000,"KeepOld":0,"MaxRowsPerSecond":0}}', '', '', '', 0, NULL, 20, 20, '2026-11-27 12:29:43.539764+00', '2026-11-27 12:29:44.329003+00');
INSERT INTO dbsync_ctrl.indices (name, generation, live, live_fingerprint, live_mapping, building, building_fingerprint, building_mapping, source, cursor, rows_done, rows_total, started_at, finished_at) VALUES ('g07-orders', 'O76FWO4HZIYMWE43GAPUV4MFL7/{{publication}}/{{oid orders}}/{{member orders}} O76FWO4HZIYMWE43GAPUV4MFL7/{{publication}}/{{oid order_lines}}/{{member order_lines}}', 'g07-orders-20261127t122943z', '99db6d4b74ca101f2bca015d0c83f8de', '{"Name":"g07-orders","Sources":[{"Table":{"Schema":"public","Name":"orders"},"ID":["id"],"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":["order-",""]},{"Table":{"Schema":"public","Name":"order_lines"},"ID":["line","order_id"],"Routing":"","Where":"","Fields":[{"Name":"quantity","Omit":false,"Column":"quantity","As":"","Params":{"type":"byte"},"Expr":"","Constant":null,"Group":null},{"Name":"note","Omit":false,"Column":"note","As":"","Params":{"type":"keyword"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":null,"Literals":["line-","-",""]}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":1,"KeepOld":0,"MaxRowsPerSecond":0}}', 'g07-orders-20261127t122947z', '0ad31120dadd7acb5be467d21b4636ab', '{"Name":"g07-orders","Sources":[{"Table":{"Schema":"public","Name":"orders"},"ID":["id"],"Routing":"","Where":"","Fields":null,"Listed":false,"Include":null,"Literals":["order-",""]},{"Table":{"Schema":"public","Name":"order_lines"},"ID":["line","order_id"],"Routing":"","Where":"","Fields":[{"Name":"quantity","Omit":false,"Column":"quantity","As":"","Params":{"type":"byte"},"Expr":"","Constant":null,"Group":null},{"Name":"note","Omit":false,"Column":"note","As":"","Params":{"type":"text"},"Expr":"","Constant":null,"Group":null}],"Listed":false,"Include":null,"Literals":["line-","-",""]}],"Settings":null,"Mappings":null,"Reindex":{"Chunk":1,"KeepOld":0,"MaxRowsPerSecond":0}}', 1, '{13,1}', 101, 240, '2026-11-27 12:29:47.619502+00', '2026-11-27 12:29:46.480633+00');

INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (1, 'control_g07', 'refresh', 'g07-events', 'public.events', 'id <= 3', NULL, 'done', '', 3, '2026-11-27 12:29:46.779561+00', '2026-11-27 12:29:46.842955+00');
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (2, 'control_g07', 'refresh', 'g07-products', '', 'id <= 20', NULL, 'running', '', 0, '2026-11-27 12:29:47.99059+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (3, 'control_g07', 'reindex', 'g07-events', '', '', NULL, 'waiting', '', 0, '2026-11-27 12:29:48.720424+00', NULL);
INSERT INTO dbsync_ctrl.requests (id, slot, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at) OVERRIDING SYSTEM VALUE VALUES (4, 'control_g07', 'refresh', 'g07-orders', 'public.order_lines', '', '{{1,2},{3,4}}', 'waiting', '', 0, '2026-11-27 12:29:48.773354+00', NULL);

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
