package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tidemark/mapping"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Print what the mapping file comes to",
		RunE: func(c *cobra.Command, _ []string) error {
			return &usageError{errors.New("say what to do with it: print"), c.CommandPath()}
		},
	}
	c.AddCommand(newConfigPrint())
	return c
}

func newConfigPrint() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "print",
		Short: "Print what the mapping file comes to, with defaults filled in and secrets masked",
		Long: "Prints the mapping file as it is read: with what ${…} stands for, and the defaults of keys that it does not have. In the\n" +
			"place of secrets stands ***, also of what was read from a file, or from a variable whose name says that it is one. No\n" +
			"server is asked anything.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := mapping.Print(file)
			if err != nil {
				return err
			}
			if _, err := c.OutOrStdout().Write(text); err != nil {
				return fmt.Errorf("print the mapping file: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "tidemark.yaml", "mapping `file`")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	return c
}
