//go:build !race

package e2e

// raced tells whether the tests were built with the race detector.
const raced = false
