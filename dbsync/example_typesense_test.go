package dbsync_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
)

// typesense keeps collections of a Typesense server equal to tables of the same names: it makes documents of rows, and stores them.
// A batch comes again after an error, so storing has to bear repetition: an import by id does.
type typesense struct {
	dbsync.DefaultMessageHandler
	syncer *dbsync.Syncer
	url    string // of the server
	key    string // of its API
}

// row marks the document of a row. A value that the message leaves out, a large one that the change did not touch, is not in the
// map; the import leaves such a field as it is.
func (h *typesense) row(tuple *pglogrepl.TupleData, reln *pglogrepl.RelationMessage) error {
	id, doc, problems := h.syncer.MessageToMap(tuple, reln)
	for column, err := range problems {
		if !errors.As(err, new(*dbsync.UnchangedError)) {
			return fmt.Errorf("column %s: %w", column, err)
		}
	}
	doc["id"] = id // what the server knows documents by, a text
	h.syncer.MarkUpdated(reln.RelationName, id, doc)
	return nil
}

func (h *typesense) HandleInsertMessage(_ int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	return h.row(msg.Tuple, reln)
}

func (h *typesense) HandleUpdateMessage(_ int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, table *dbsync.PGTableInfo) error {
	if msg.OldTuple != nil { // the key may be another one
		h.syncer.MarkDeleted(reln.RelationName, table.GetRecordID(msg.OldTuple, reln))
	}
	return h.row(msg.NewTuple, reln)
}

func (h *typesense) HandleDeleteMessage(_ int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, table *dbsync.PGTableInfo) error {
	h.syncer.MarkDeleted(reln.RelationName, table.GetRecordID(msg.OldTuple, reln))
	return nil
}

// HandleRefresh takes the rows that were there before the slot was.
func (h *typesense) HandleRefresh(key, value any) error {
	doc := value.(dbsync.StringMap)
	doc["id"] = key
	h.syncer.MarkUpdated("products", key.(string), doc)
	return nil
}

// BatchUpsert imports documents. The server answers with a line for each, and one that it refuses is an error here: the batch comes
// again until somebody has mended it. Keep such documents elsewhere if that is not what you want.
func (h *typesense) BatchUpsert(collection string, docs []dbsync.StringMap) (any, error) {
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	for _, doc := range docs {
		if err := lines.Encode(doc); err != nil {
			return nil, err
		}
	}
	answer, err := h.do(http.MethodPost, "/collections/"+url.PathEscape(collection)+"/documents/import?action=emplace", &body)
	if err != nil {
		return nil, err
	}
	for scan := bufio.NewScanner(bytes.NewReader(answer)); scan.Scan(); {
		var line struct {
			Success bool   `json:"success"`
			Error   string `json:"error"`
		}
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("import into %s: %w", collection, err)
		}
		if !line.Success {
			return nil, fmt.Errorf("import into %s: %s", collection, line.Error)
		}
	}
	return nil, nil
}

// BatchDelete removes documents; one that is not there is no error.
func (h *typesense) BatchDelete(collection string, ids []string) (any, error) {
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = "`" + id + "`"
	}
	filter := url.Values{"filter_by": {"id:[" + strings.Join(quoted, ",") + "]"}}
	_, err := h.do(http.MethodDelete, "/collections/"+url.PathEscape(collection)+"/documents?"+filter.Encode(), nil)
	return nil, err
}

func (h *typesense) do(method, path string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequest(method, h.url+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-TYPESENSE-API-KEY", h.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return answer, err
}

// Keeps a Typesense collection equal to a table, and fills it with the rows that are there.
func Example_typesense() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	syncer, err := dbsync.NewSyncer(dbsync.ForTables("public.products"), dbsync.WithReplicationSlot("typesense"))
	if err != nil {
		log.Fatal(err)
	}
	defer syncer.Close()
	store := &typesense{syncer: syncer, url: "http://localhost:8108", key: os.Getenv("TYPESENSE_API_KEY")}
	syncer.MessageHandler, syncer.Batcher = store, store

	ended := make(chan error, 1)
	go func() { ended <- syncer.Run(ctx) }()
	if !syncer.Refresh("SELECT * FROM products") { // once is enough; the slot remembers the rest
		log.Print(syncer.Err())
	}
	if err := <-ended; err != nil {
		log.Print(err)
	}
}
