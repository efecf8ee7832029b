package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/draft"
	"tidemark/internal/logging"
	"tidemark/internal/prepare"
	"tidemark/mapping"
)

// Where init finds the servers when no flag says so.
const (
	databaseVariable = "DATABASE_URL"
	searchVariable   = "SEARCH_URL"
	searchDefault    = "http://localhost:9200"
)

// initPatience is how long the database may not answer: somebody waits for the result.
const initPatience = 5 * time.Second

type initOptions struct {
	output  string
	url     string
	schemas []string
	tables  []string
}

func newInit(stderr io.Writer) *cobra.Command {
	o := initOptions{}
	c := &cobra.Command{
		Use:   "init",
		Short: "Draft a mapping file for the tables of a database",
		Long: "Looks at tables, keys and foreign keys of a database, and drafts a mapping file that check accepts as it is:\n" +
			"an index for each table, with rows of other tables inside as the foreign keys propose. What takes a change of\n" +
			"the database first is a comment, with the statement. Nothing is changed anywhere.\n\n" +
			"The database is that of --url, of the environment variable " + databaseVariable + ", or of PGHOST, PGDATABASE and their\n" +
			"like; the cluster that of " + searchVariable + ", or " + searchDefault + ". No password gets into the file.\n\n" +
			"Its first line names a schema, by which editors with yaml-language-server complete keys and mark mistakes. With -o it is\n" +
			"written beside the file, if it is not there; tidemark schema prints it.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			err := initialize(c.Context(), o, c.OutOrStdout(), stderr, c.CommandPath())
			if c.Context().Err() != nil {
				return errInterrupted
			}
			return err
		},
	}
	flags := c.Flags()
	flags.StringVarP(&o.output, "output", "o", "", "`file` to write, which must not be there yet; default: the standard output")
	flags.StringVar(&o.url, "url", "", "`URL` of the database: postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	// No StringSlice: the quotes of names are not those of CSV.
	flags.StringArrayVar(&o.schemas, "schema", nil, "only tables of these `schemas` (a,b,…)")
	flags.StringArrayVar(&o.tables, "tables", nil, "only these `tables` (a,b,…) get an index; rows of others may be inside")
	_ = c.MarkFlagFilename("output", "yaml", "yml")
	return c
}

// initialize drafts the file. command is what the user called, for messages.
func initialize(ctx context.Context, o initOptions, stdout, stderr io.Writer, command string) error {
	if o.output != "" {
		if _, err := os.Lstat(o.output); err == nil {
			return alreadyThere(o.output)
		}
	}
	config, from, err := databaseOf(o.url)
	if err != nil {
		return err
	}
	if config == nil {
		return &usageError{errors.New("no database is given: there is no --url, and none of " + databaseVariable + ", PGHOST, PGDATABASE, PGUSER, PGSERVICE is set"), command}
	}
	wanted := draft.Options{}
	if wanted.Schemas, err = names(o.schemas); err == nil {
		wanted.Tables, err = names(o.tables)
	}
	if err != nil {
		return &usageError{err, command}
	}
	for i, schema := range wanted.Schemas {
		if len(schema) > 2 && strings.HasPrefix(schema, `"`) && strings.HasSuffix(schema, `"`) {
			wanted.Schemas[i] = strings.ReplaceAll(schema[1:len(schema)-1], `""`, `"`)
		}
	}
	switch {
	case from == databaseVariable || hasPassword(o.url):
		wanted.Variable = databaseVariable
	case from != "":
		wanted.URL = o.url
	}
	if wanted.SearchURLs, wanted.SearchUser, err = searchOf(os.Getenv(searchVariable)); err != nil {
		return err
	}
	db, err := prepare.Open(ctx, config, logging.New(stderr, true, slog.LevelWarn), initPatience)
	if err != nil {
		return withoutKeys(err, from)
	}
	defer db.Close()
	d, err := draft.Make(ctx, db, wanted)
	if err != nil {
		return err
	}
	return deliver(o, d, stdout)
}

// databaseOf finds out which database is meant, and what says so: --url, DATABASE_URL, or
// nothing where it is PGHOST and its like. No config says that nothing does.
func databaseOf(flag string) (c *mapping.Config, from string, err error) {
	given := flag
	switch {
	case flag != "":
		from = "--url"
	case os.Getenv(databaseVariable) != "":
		from, given = databaseVariable, os.Getenv(databaseVariable)
	case !slices.ContainsFunc([]string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"}, func(name string) bool { return os.Getenv(name) != "" }):
		return nil, "", nil
	}
	text := "search: {urls: [" + searchDefault + "]}\nindices: {any: {table: any}}\n" // what a config cannot be without
	if from != "" {
		text += "postgres: {url: \"${URL}\"}\n"
	}
	c, err = mapping.Parse("", []byte(text), func(string) (string, bool) { return given, true })
	return c, from, withoutKeys(err, from)
}

var postgresKey = regexp.MustCompile(`^postgres(\.[a-z]+)?: `)

// withoutKeys makes problems of a mapping file those of what was given instead of one.
func withoutKeys(err error, from string) error {
	if from == "" {
		from = "PGHOST, PGDATABASE and their like"
	}
	if problems, ok := errors.AsType[mapping.Problems](err); ok {
		for i := range problems {
			problems[i].File, problems[i].Line = from, 0
			problems[i].Text = postgresKey.ReplaceAllString(problems[i].Text, "")
		}
		return problems
	}
	if e, ok := errors.AsType[*prepare.UnreachableError](err); ok {
		return &unreachableError{e, from}
	}
	return err
}

// An unreachableError says where the address came from.
type unreachableError struct {
	*prepare.UnreachableError
	from string
}

func (e *unreachableError) Error() string {
	return strings.ReplaceAll(e.UnreachableError.Error(), "postgres.url", e.from)
}

// hasPassword reports whether a password may be in the description of a connection.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return strings.Contains(strings.ToLower(text), "password")
	}
	_, set := u.User.Password()
	return set || strings.Contains(strings.ToLower(u.RawQuery), "password")
}

// searchOf returns the addresses of the cluster, and the user if one is in them.
func searchOf(text string) (urls []string, user string, err error) {
	if text == "" {
		return []string{searchDefault}, "", nil
	}
	for part := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			// Not shown: a password may be in it.
			return nil, "", mapping.Problems{{File: searchVariable, Text: "this is not the URL of a cluster", Hint: "https://HOST:9200, several with commas between them"}}
		}
		if name := u.User.Username(); name != "" {
			user = name
		}
		u.User = nil
		urls = append(urls, u.String())
	}
	return urls, user, nil
}

// names parts lists of names at their commas, but for those in double quotes.
func names(lists []string) ([]string, error) {
	var names []string
	for _, list := range lists {
		begin, quoted := 0, false
		for i := 0; i <= len(list); i++ {
			switch {
			case i < len(list) && list[i] == '"':
				quoted = !quoted
			case i == len(list) && quoted:
				return nil, fmt.Errorf("%s: a \" without its end", list)
			case i == len(list) || list[i] == ',' && !quoted:
				name := strings.TrimSpace(list[begin:i])
				if name == "" {
					return nil, fmt.Errorf("a name is missing in %q", list)
				}
				names = append(names, name)
				begin = i + 1
			}
		}
	}
	return names, nil
}

// deliver prints the draft, or writes it to a file that is not there yet.
func deliver(o initOptions, d *draft.Draft, stdout io.Writer) error {
	if o.output == "" {
		if _, err := stdout.Write(d.Text); err != nil {
			return fmt.Errorf("print the mapping file: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(o.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return alreadyThere(o.output)
	}
	if err != nil {
		return fmt.Errorf("write the mapping file: %w", err)
	}
	if _, err = f.Write(d.Text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Half a file would keep the next init from writing a whole one.
		return errors.Join(fmt.Errorf("write the mapping file: %w", err), os.Remove(o.output))
	}
	if err := writeSchema(filepath.Join(filepath.Dir(o.output), draft.SchemaFile)); err != nil {
		return err
	}
	left := ""
	if d.LeftOut > 0 {
		left = fmt.Sprintf("; without one: %d, its end says why", d.LeftOut)
	}
	_, err = fmt.Fprintf(stdout, "%s has an index for each of %d tables%s. Next: tidemark check -c %s\n", o.output, d.Indices, left, o.output)
	return err
}

// writeSchema writes what the first line of the draft names, by which editors complete keys. One that is there
// stays.
func writeSchema(file string) error {
	text, err := mapping.JSONSchema()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write the schema that editors complete the mapping file by: %w", err)
	}
	return nil
}

func alreadyThere(file string) error {
	return mapping.Problems{{File: file, Text: "it is there already, and is not overwritten", Hint: "name another file: -o FILE"}}
}
