package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"tidemark/internal/draft"
	"tidemark/mapping"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of mapping files",
		Long: "Prints the JSON Schema of mapping files, by which editors complete keys and mark mistakes. It is that of this version,\n" +
			"made from what reads the file. An editor with yaml-language-server finds it by the first line of a mapping file:\n\n" +
			"  # yaml-language-server: $schema=" + draft.SchemaFile,
		Example: "  tidemark schema > " + draft.SchemaFile,
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := mapping.JSONSchema()
			if err == nil {
				_, err = c.OutOrStdout().Write(text)
			}
			if err != nil {
				return fmt.Errorf("print the schema: %w", err)
			}
			return nil
		},
	}
}
