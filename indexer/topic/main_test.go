package topic

import (
	"testing"

	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
