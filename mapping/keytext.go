package mapping

import (
	"fmt"
	"strings"
)

// keyTexts says of each key of mapping files what it does, in which unit, with which default and at what cost: what
// editors show where a key is written. A key is named by those around it; "*" stands for any name, and what stands
// at several places (tables of an index, rows that are included) is named as it is at the first of them.
var keyTexts = map[string]string{
	"postgres":                    "The database whose rows become documents. What is left out of url, host, port, database, user, password and sslmode is taken from PGHOST, PGPORT, PGDATABASE and so on, as psql does.",
	"postgres.url":                "postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, or \"host=… dbname=…\". In the place of host, port, database, user, password and sslmode.",
	"postgres.host":               "A name, an address, or the folder of a Unix socket.",
	"postgres.port":               "1 to 65535. Default: 5432.",
	"postgres.database":           "The name of the database.",
	"postgres.user":               "The role to connect as. It needs REPLICATION and SELECT on the tables; tidemark check prints the statements.",
	"postgres.password":           "The password of the role, best as ${file:/run/secrets/postgres} or ${NAME}. Never shown.",
	"postgres.sslmode":            "disable, allow, prefer, require, verify-ca or verify-full. Default: prefer, TLS if the server has it, not verified.",
	"postgres.slot":               "The replication slot: a-z, 0-9 and _. Made if it is missing. While nothing follows it, Postgres keeps its log for it, on its disk.",
	"postgres.publication":        "The publication that the slot is read by. Made if it is missing, and kept equal to the tables below and those of other slots of the control schema.",
	"postgres.control_schema":     "The schema that holds state, requests and dead letters. Made if it is missing.",
	"postgres.publish_columns":    "Which tables are published with the columns that documents use alone. auto: those with a bytea that none uses; used: all; all: none, every column is published. Fewer columns are fewer bytes from Postgres; a column that is used later costs a change of the publication.",
	"postgres.replication_url":    "Of a standby (Postgres 16 and later) that has the slot and decodes the log in the primary's stead; everything else stays with url. Default: the slot is on the primary.",
	"postgres.failover":           "true: on Postgres 17 and later the slot outlives the promotion of a standby that copies it. A standby that synchronized_standby_slots names and that is down holds up the stream then. false: the slot is left as it is.",
	"postgres.event_triggers":     "true: altered tables and types are noticed at once, and not within 10 s. Takes a superuser once, who makes the triggers.",
	"search":                      "The cluster of Elasticsearch or OpenSearch that documents are written to.",
	"search.urls":                 "URLs of nodes of one cluster. One that does not answer is left out for 1 s to 30 s. TLS is verified.",
	"search.cloud_id":             "The id of a deployment of Elastic Cloud, in the place of urls.",
	"search.user":                 "With password. Default: no authentication.",
	"search.password":             "The password of user, best as ${file:/run/secrets/search} or ${NAME}. Never shown.",
	"search.api_key":              "As the server gave it out in \"encoded\", in the place of user and password. Never shown.",
	"search.token":                "Sent as Authorization: Bearer, in the place of user and password. Never shown.",
	"search.aws":                  "Requests are signed (SigV4) with the credentials that the AWS SDK finds, in the place of user and password.",
	"search.aws.region":           "The region of the domain: eu-west-1.",
	"search.aws.service":          "es: Amazon OpenSearch Service; aoss: OpenSearch Serverless.",
	"search.aws.role":             "The ARN of a role to assume. Default: none, the credentials are used as they are.",
	"search.ca_file":              "PEM certificates to trust, relative to this file. Default: those of the system.",
	"search.cert_file":            "PEM certificate to show to the cluster, with key_file. Read again when it changes.",
	"search.key_file":             "PEM key of cert_file.",
	"search.proxy_url":            "http, https or socks5, also with USER:PASSWORD@. Default: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.",
	"search.headers":              "Sent with each request, for gateways that want some. Values are secrets, and never shown.",
	"search.bulk":                 "What the cluster is given at the most. It is given less where it rejects some, or where more is not faster.",
	"search.bulk.requests":        "Bulk requests at the same time, 1 to 64. Each takes memory on both sides; all together have four times bytes at the most.",
	"search.bulk.bytes":           "Of one request before compression, 64KiB to 90MiB, with B, KiB, MiB or GiB. Memory: four times this.",
	"search.bulk.documents":       "Documents of one request, 1 to 100000.",
	"search.bulk.poison_after":    "A document that alone is answered with 5xx, or not at all, while others pass, is a dead letter after this time: 1s to 24h. off: it is tried without end, and holds up everything behind it.",
	"search.max_document_bytes":   "64KiB to 500MiB. A larger document is not read, and becomes a dead letter. Memory grows with it.",
	"kafka":                       "Operations go through a topic of Kafka, and any number of workers (tidemark apply) write them to the cluster. Without it they are written by the instance itself, which is enough for most.",
	"kafka.brokers":               "HOST:PORT of brokers of one Kafka cluster. The others are found by them.",
	"kafka.topic":                 "The topic of operations: letters, digits, dots, _ and -. Made if it is missing, and checked if it is there; so is the one of the same name with .reports behind it, by which workers report.",
	"kafka.group":                 "The consumer group of the workers. Default: as the topic is called.",
	"kafka.groups":                "Further clusters that have the documents, by a name for each: a topic, workers (tidemark apply --group NAME), rebuilds and dead letters of their own. One that is away holds up no other.",
	"kafka.groups.*.search":       "The cluster of the group, by the keys of search. max_document_bytes is one for all, and stands there.",
	"kafka.partitions":            "Partitions of the topic when it is made, 1 to 10000. So many workers may share it. Another number later is a lost slot: documents change their partition.",
	"kafka.replication":           "Replicas of topics when they are made, 1 to 100. From 3 on, two of them have to have a record before the slot moves. 0: as many as the broker makes by itself.",
	"kafka.retention":             "How long Kafka keeps records of topics that are made, 1h to 8760h. Workers that are away for longer are a lost slot. Disk: all changes of this time.",
	"kafka.compression":           "Of what is produced: none, snappy, lz4, zstd or gzip. zstd and gzip spare network and disk, and take more of a core.",
	"kafka.max_lag":               "Records that workers may be behind so that backfills go on, 1 to 1000000000. The stream goes on in any case.",
	"kafka.tls":                   "true: connections are encrypted, and the certificate of the broker is verified. So they are with ca_file, cert_file and mechanism aws-msk-iam.",
	"kafka.ca_file":               "PEM certificates to trust, relative to this file. Default: those of the system.",
	"kafka.cert_file":             "PEM certificate to show to the brokers, with key_file. Read again when it changes.",
	"kafka.key_file":              "PEM key of cert_file.",
	"kafka.sasl":                  "Who asks. Default: nobody is named, but for cert_file.",
	"kafka.sasl.mechanism":        "plain, scram-sha-256 and scram-sha-512 take user and password; oauthbearer one of token, token_file and token_url; aws-msk-iam a region.",
	"kafka.sasl.user":             "With password, for plain and scram.",
	"kafka.sasl.password":         "The password of user, best as ${file:/run/secrets/kafka} or ${NAME}. Never shown. plain sends it as it is: with tls, so that nobody on the way reads it.",
	"kafka.sasl.token":            "For oauthbearer: a token that does not change. Never shown.",
	"kafka.sasl.token_file":       "For oauthbearer: a file that has the token in it, relative to this file. Read at each authentication.",
	"kafka.sasl.token_url":        "For oauthbearer: the endpoint that gives out tokens for client_id and client_secret (client credentials of OAuth 2).",
	"kafka.sasl.client_id":        "Who asks token_url for tokens.",
	"kafka.sasl.client_secret":    "What proves it to token_url. Never shown.",
	"kafka.sasl.scopes":           "What tokens of token_url are asked for. Default: none.",
	"kafka.sasl.region":           "For aws-msk-iam: the region of the cluster, eu-west-1.",
	"kafka.sasl.role":             "For aws-msk-iam: the ARN of a role to assume. Default: none, the credentials that the AWS SDK finds are used as they are.",
	"admin":                       "Status page, metrics and health of a running instance (not of run --once).",
	"admin.listen":                "HOST:PORT; :9630 for all addresses. Reading takes no authentication.",
	"admin.token":                 "16 characters or more. Who knows it may rebuild, compare, retry and drop from the page. Default: nobody may.",
	"admin.hosts":                 "Names that an ingress or a proxy passes on as Host. Default: addresses, localhost, names without a dot and of Kubernetes; another one is answered 421.",
	"on_error":                    "What the search server refuses for good. dead_letter: it is kept with the reason, and the rest goes on; stop: the instance ends.",
	"on_slot_lost":                "When changes are missing, as the slot is gone or was invalidated. stop: the instance ends, and says so; reindex: everything is rebuilt, beside what is in use.",
	"indexer":                     "How changes become documents.",
	"indexer.fan_out":             "Documents that the changes of related rows in a batch may concern, 1 to 100000. More are stored again beside the stream. Their keys are held in memory.",
	"verify":                      "A running instance compares every index with its tables, again and again.",
	"verify.every":                "From the begin of one comparison to the next, 1s to 8760h. off: only when something asks for it.",
	"verify.rows_per_second":      "Rows and documents looked at in a second, 1 to 1000000. A million rows take some 20 s of a core, and reads of both servers.",
	"verify.on_difference":        "repair: the document is made anew; report: it is logged and counted.",
	"verify.ready_while_unproven": "true: /readyz answers 200 while an index has to be compared; false: 503.",
	"indices":                     "The indices, by the name that searchers use: an alias. The physical index behind it carries a timestamp.",

	"indices.*.table":                       "The table whose rows become documents. Upper case counts: public.Album; quotes for the rest: 'public.\"Weird.Name\"'. Default schema: public.",
	"indices.*.table.name":                  "The table, as in table: NAME.",
	"indices.*.table.children":              "true: the rows of tables that inherit from it are rows of it. Each has to be published, with a usable replica identity.",
	"indices.*.name":                        "The alias that searchers use. Default: the key. With {schema} there is one index for each schema.",
	"indices.*.max_indices":                 "How many indices name stands for, 1 to 1000. What there is more is left out, with an alarm. Each has shards, which the cluster has to bear.",
	"indices.*.fields.*.schema":             "true: the schema of the table that the row is of.",
	"indices.*.tables":                      "Several tables in one index, each with what belongs to it, from table to include. Their ids must differ: id: product-{id}.",
	"indices.*.id":                          "What makes _id: columns, or a text with columns in braces (product-{id}). Default: the primary key. They have to be NOT NULL and unique.",
	"indices.*.routing":                     "The column whose value is the routing of the document. Default: none. Searches that name it ask one shard; another value moves the document.",
	"indices.*.where":                       "An expression over columns: only rows for which it is true have a document. Default: all.",
	"indices.*.fields":                      "What differs from: all columns, under their own names. A list of names says: only these.",
	"indices.*.fields.*":                    "false: only the columns that are listed here. true: all others, too, which is the default.",
	"indices.*.include":                     "Rows of other tables, and what they come to, as fields. A change of such a row has the documents read again that have it in them.",
	"indices.*.settings":                    "Settings of the index, as the server takes them. Other ones cost a rebuild.",
	"indices.*.mappings":                    "Mappings of the index beside its fields, as the server takes them. Default: {dynamic: false}. Other ones cost a rebuild.",
	"indices.*.reindex":                     "How the index is filled and rebuilt.",
	"indices.*.reindex.chunk":               "Rows read by one select, 1 to 1000000; 4 MiB are as many.",
	"indices.*.reindex.keep_old":            "Physical indices kept after a rebuild, 0 to 100. Each takes the disk of the cluster, and is not kept up to date.",
	"indices.*.reindex.readers":             "Chunks of a table read at a time, 1 to 8, of 4 MiB each. 0: one for each core, 2 to 4. Each takes a connection to Postgres.",
	"indices.*.reindex.max_rows_per_second": "Rows read from the tables in a second, to spare the database. 0: no bound. With a bound one chunk is read after the other.",
	"indices.*.fields.*.column":             "The column whose value it is. The column is then not also there under its own name, unless it is asked for.",
	"indices.*.fields.*.expr":               "An expression over columns of the row, in expr-lang: lower(trim(sku)).",
	"indices.*.fields.*.constant":           "A value that is the same in every document.",
	"indices.*.fields.*.fields":             "An object of columns of the same row.",
	"indices.*.fields.*.as":                 "Another JSON form of the column's values: string, say.",
	"indices.*.fields.*.type":               "The type of the index field, with any of its parameters beside it. Default: derived from the column's type. Another one costs a rebuild.",
	"indices.*.include.*.table":             "The table whose rows are included. Its linking columns have to be in its replica identity; tidemark check prints the statement.",
	"indices.*.include.*.on":                "Columns of the table around it, and those of this table that have the same value: {category_id: id}. An index of Postgres on the latter saves a scan for each document.",
	"indices.*.include.*.through":           "A table that links both, where rows belong to many.",
	"indices.*.include.*.through.table":     "The table that links both.",
	"indices.*.include.*.through.on":        "Columns of the table around it, and those of the linking table that have the same value.",
	"indices.*.include.*.through.to":        "Columns of the linking table, and those of the included table that have the same value.",
	"indices.*.include.*.many":              "A list of objects: nested (each can be searched by itself, and is a document of its own inside) or object. Default: one row, an object or null.",
	"indices.*.include.*.fields":            "As of an index, but for expr. Default: all columns.",
	"indices.*.include.*.value":             "A list of the values of this column, in the place of objects.",
	"indices.*.include.*.aggregate":         "count, sum, avg, min or max of the rows, in the place of the rows themselves.",
	"indices.*.include.*.column":            "The column that is aggregated; none for count.",
	"indices.*.include.*.where":             "A condition in SQL over the columns of this table. Default: none.",
	"indices.*.include.*.order_by":          "The order of the rows: created_at desc nulls last, id. Default, and in the end always: the primary key.",
	"indices.*.include.*.limit":             "Rows at most, 1 to 1000000. Default: all, which may be a large document.",
	"indices.*.include.*.include":           "Rows of other tables in these objects, 10 deep.",
}

// definitionPaths are where what the schema defines once stands at first.
var definitionPaths = map[string]string{"field": "indices.*.fields.*", "includes": "indices.*.include"}

// explainAll puts its text beside each key of the schema. Its error names keys without one, or texts without a key.
func explainAll(root *schema) error {
	used := make(map[string]bool)
	if err := root.explain("", used); err != nil {
		return err
	}
	for name, definition := range root.Definitions {
		path, ok := definitionPaths[name]
		if !ok {
			return fmt.Errorf("it is not known where definition %s stands", name)
		}
		if err := definition.explain(path, used); err != nil {
			return err
		}
	}
	for key := range keyTexts {
		if !used[key] {
			return fmt.Errorf("there is a text for %s, and no such key", key)
		}
	}
	return nil
}

// explain puts its text beside each key that a part of the schema has; path names the keys around it. It returns an
// error that names a key without a text, and notes those that have one in used.
func (s *schema) explain(path string, used map[string]bool) error {
	for name, value := range s.Properties {
		at := join(path, name)
		key := textKey(at)
		text, ok := keyTexts[key]
		if !ok {
			return fmt.Errorf("key %s has no text", at)
		}
		used[key] = true
		if value.Ref != "" { // what stands beside it is not looked at
			*value = schema{AllOf: []*schema{{Ref: value.Ref}}}
		}
		value.Description = text
		if err := value.explain(at, used); err != nil {
			return err
		}
	}
	parts := append([]*schema{s.Items}, s.AnyOf...)
	for _, part := range append(parts, s.AllOf...) {
		if part == nil {
			continue
		}
		if err := part.explain(path, used); err != nil {
			return err
		}
	}
	if more, ok := s.AdditionalProperties.(*schema); ok {
		return more.explain(join(path, "*"), used)
	}
	return nil
}

// textKey returns by what key the text for one is known, which may stand at several places.
func textKey(path string) string {
	path = strings.Replace(path, ".tables.", ".", 1)
	if i := strings.LastIndex(path, ".table."); i >= 0 { // name, children
		return "indices.*" + path[i:]
	}
	if name, ok := strings.CutPrefix(path, "kafka.groups.*.search."); ok {
		return "search." + name
	}
	if strings.HasSuffix(path, ".fields.*") {
		return "indices.*.fields.*"
	}
	return path
}
