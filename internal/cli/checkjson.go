package cli

import (
	"encoding/json"
	"errors"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/mapping"
)

// A checkReport is what check prints as JSON. docs/commands.md describes it.
type checkReport struct {
	Works    bool          `json:"works"` // run would do what is said
	Problems []problemLine `json:"problems"`
	Errors   []string      `json:"errors"` // what keeps run from it besides, each with its hint

	// Absent where something has to be fixed first.
	Postgres *checkedPostgres `json:"postgres,omitempty"`
	Search   *checkedSearch   `json:"search,omitempty"`
	Kafka    *checkedKafka    `json:"kafka,omitempty"`  // absent where the file has no kafka, too
	Groups   []checkedGroup   `json:"groups,omitempty"` // clusters beside the first
	Left     []problemLine    `json:"left_out"`         // what patterns match, and is in no index
	Indices  []checkedIndex   `json:"indices"`
}

// A problemLine is something to fix in a mapping file.
type problemLine struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

type checkedPostgres struct {
	Version  string   `json:"version"`
	Database string   `json:"database"`
	Role     string   `json:"role"`
	Slot     string   `json:"slot"`
	Exists   bool     `json:"slot_exists"`
	Active   bool     `json:"slot_active"`
	Position string   `json:"slot_position,omitempty"`
	Retained *int64   `json:"slot_retained_bytes,omitempty"`
	Lost     string   `json:"lost,omitempty"`     // why changes are missing
	Standbys string   `json:"standbys,omitempty"` // why nothing comes
	Steps    []string `json:"steps"`              // what run would make or change
}

type checkedSearch struct {
	Product string `json:"product"`
	Version string `json:"version"`
	Cluster string `json:"cluster"`
}

type checkedKafka struct {
	Topic      string        `json:"topic"`
	Group      string        `json:"group"`
	Partitions int           `json:"partitions,omitempty"` // absent while the topics are not there
	Steps      []string      `json:"steps"`                // what run would make
	Remarks    []problemLine `json:"remarks"`              // what works, and may hurt
}

type checkedGroup struct {
	Group  string         `json:"group"`
	Search *checkedSearch `json:"search,omitempty"` // absent while it does not answer
	Away   string         `json:"away,omitempty"`   // why it does not; run begins without it
	Kafka  *checkedKafka  `json:"kafka"`
}

type checkedIndex struct {
	Index    string          `json:"index"`
	Run      string          `json:"run"` // what run does with it, after that word
	Live     string          `json:"live,omitempty"`
	Building string          `json:"building,omitempty"`
	Alias    []string        `json:"alias"`   // what its name stands for
	Fill     string          `json:"fill"`    // why it has to be filled; "": it has not
	Refused  string          `json:"refused"` // why run stops because of it
	Tables   []checkedSource `json:"tables"`
}

type checkedSource struct {
	Table   string      `json:"table"`
	Rows    *int64      `json:"rows,omitempty"` // an estimate
	ID      string      `json:"id"`
	Routing string      `json:"routing,omitempty"`
	Where   string      `json:"where,omitempty"`
	Fields  []fieldLine `json:"fields"`
}

// printCheckJSON prints what was found for programs.
func printCheckJSON(c *checked) ([]byte, error) {
	r := checkReport{Works: c.err == nil, Problems: []problemLine{}, Errors: []string{}, Left: []problemLine{}, Indices: []checkedIndex{}}
	r.add(c.err)
	if c.prepared != nil {
		r.Postgres, r.Search = servers(c.config, c.prepared)
		r.Kafka = kafkaLine(c.config, c.prepared.Kafka)
		for _, g := range c.groups {
			r.Groups = append(r.Groups, groupLine(g))
		}
		for _, p := range c.config.Left {
			r.Left = append(r.Left, problemLine{p.File, p.Line, p.Text, p.Hint})
		}
		for _, plan := range c.plans {
			ix, err := indexLine(&plan)
			if err != nil {
				return nil, err
			}
			r.Indices = append(r.Indices, *ix)
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// add takes up an error: problems of the file, or others.
func (r *checkReport) add(err error) {
	if err == nil {
		return
	}
	if problems, ok := err.(mapping.Problems); ok {
		for _, p := range problems {
			r.Problems = append(r.Problems, problemLine{p.File, p.Line, p.Text, p.Hint})
		}
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			r.add(e)
		}
		return
	}
	if problems, ok := errors.AsType[mapping.Problems](err); ok {
		r.add(problems)
		return
	}
	r.Errors = append(r.Errors, explain(err)...)
}

func servers(c *mapping.Config, p *prepare.Prepared) (*checkedPostgres, *checkedSearch) {
	db, product := p.Database, p.Client.Product()
	postgres := &checkedPostgres{Version: postgresVersion(db.ServerVersion), Database: db.Database, Role: db.Role, Slot: c.Postgres.Slot, Standbys: db.Standbys,
		Exists: db.Slot.Exists, Active: db.Slot.Active, Steps: append([]string{}, db.Steps...)}
	if db.Slot.Exists {
		postgres.Position, postgres.Retained = db.Slot.Confirmed.String(), &db.Slot.Retained
	}
	if db.Lost != nil {
		postgres.Lost = dbsync.WithoutValues(db.Lost)
	}
	if p.Control.Made {
		postgres.Steps = append(postgres.Steps, p.Control.Pending...)
	} else {
		postgres.Steps = append(postgres.Steps, "make its tables in control schema "+c.StateSchema())
	}
	return postgres, &checkedSearch{Product: product.Name, Version: product.Version, Cluster: product.ClusterName}
}

func groupLine(g *prepare.Group) checkedGroup {
	line := checkedGroup{Group: g.Config.Group, Kafka: kafkaLine(g.Config, g.Kafka)}
	if g.Client == nil {
		line.Away = dbsync.WithoutValues(g.Away)
		return line
	}
	product := g.Client.Product()
	line.Search = &checkedSearch{Product: product.Name, Version: product.Version, Cluster: product.ClusterName}
	return line
}

func kafkaLine(c *mapping.Config, found *prepare.Kafka) *checkedKafka {
	if found == nil {
		return nil
	}
	k := &checkedKafka{Topic: c.Kafka.Topic, Group: c.Kafka.Group, Partitions: found.State.Partitions, Steps: kafkaSteps(c, found), Remarks: []problemLine{}}
	for _, r := range found.Remarks {
		said := c.Problem(r.Key, r.Hint, "%s", r.Text)
		k.Remarks = append(k.Remarks, problemLine{said.File, said.Line, said.Text, said.Hint})
	}
	return k
}

func indexLine(p *prepare.IndexPlan) (*checkedIndex, error) {
	ix := &checkedIndex{Index: p.Index.Name, Run: doing(*p), Live: p.Live, Building: p.Building, Alias: append([]string{}, p.Alias...), Fill: p.Need.Backfill}
	if p.Refused != nil {
		ix.Refused = p.Refused.Error()
	}
	for _, s := range p.Index.Sources {
		t := p.Tables[s.Table]
		line := checkedSource{Table: t.TableName().String(), ID: s.IDText(t), Routing: s.Routing, Where: s.Where}
		if t.EstimatedRows >= 0 {
			line.Rows = &t.EstimatedRows
		}
		var err error
		if line.Fields, err = fieldLines(s, p.Tables); err != nil {
			return nil, err
		}
		ix.Tables = append(ix.Tables, line)
	}
	return ix, nil
}
