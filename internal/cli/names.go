package cli

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/mapping"
)

// indexNames are what can be named where indices are asked for.
func indexNames(file string) []string {
	names := []string{"all"}
	if config, err := mapping.Read(file); err == nil {
		for _, ix := range config.Indices {
			if len(config.Patterns()) > 0 { // which names they stand for only the database knows
				names = append(names, ix.Key)
			} else {
				names = append(names, ix.Name)
			}
		}
	}
	return names
}

// readNamed reads the mapping file, and returns the indices of these names. Where it has patterns it waits for the
// database for as long as patience.
func readNamed(ctx context.Context, file string, names []string, log *slog.Logger, patience time.Duration) (*mapping.Config, []*mapping.Index, error) {
	config, err := prepare.Read(ctx, file, log, patience)
	if err != nil {
		return nil, nil, err
	}
	indices, err := named(config, names)
	return config, indices, err
}

// named are the indices of the file with these names; "all" stands for every one, and a key of the file for those
// that it has become.
func named(config *mapping.Config, names []string) ([]*mapping.Index, error) {
	var found []*mapping.Index
	for _, name := range names {
		i := slices.IndexFunc(config.Indices, func(ix *mapping.Index) bool { return ix.Name == name || ix.Key == name })
		if name != "all" && i < 0 {
			return nil, &service.UnknownIndexError{Name: name}
		}
	}
	for _, ix := range config.Indices {
		if slices.Contains(names, "all") || slices.Contains(names, ix.Name) || slices.Contains(names, ix.Key) {
			found = append(found, ix)
		}
	}
	return found, nil
}
