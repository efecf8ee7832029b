package cli

import (
	"slices"

	"tidemark/internal/service"
	"tidemark/mapping"
)

// indexNames are what can be named where indices are asked for.
func indexNames(file string) []string {
	names := []string{"all"}
	if config, err := mapping.Read(file); err == nil {
		for _, ix := range config.Indices {
			names = append(names, ix.Name)
		}
	}
	return names
}

// readNamed reads the mapping file, and returns the indices of these names.
func readNamed(file string, names []string) (*mapping.Config, []*mapping.Index, error) {
	config, err := mapping.Read(file)
	if err != nil {
		return nil, nil, err
	}
	indices, err := named(config, names)
	return config, indices, err
}

// named are the indices of the file with these names; "all" stands for every one.
func named(config *mapping.Config, names []string) ([]*mapping.Index, error) {
	var found []*mapping.Index
	for _, name := range names {
		i := slices.IndexFunc(config.Indices, func(ix *mapping.Index) bool { return ix.Name == name })
		if name != "all" && i < 0 {
			return nil, &service.UnknownIndexError{Name: name}
		}
	}
	for _, ix := range config.Indices {
		if slices.Contains(names, "all") || slices.Contains(names, ix.Name) {
			found = append(found, ix)
		}
	}
	return found, nil
}
