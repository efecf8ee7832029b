//go:build race

package e2e

// raced reports whether the tests were built with the race detector.
const raced = true
