# make help   what there is

# Everything is built and checked with the release of Go that go.mod names, fetched if the
# installed one is another: make GOTOOLCHAIN=local takes that one.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)

# The search servers that `make test` runs every suite against, separated by commas.
ENGINES ?= opensearch,elasticsearch8,elasticsearch7

# Which tests, and how: make test PKG=./dbsync ARGS='-run TestRun -v'
# ARGS are also those of make demo and make bench, which have -help.
PKG ?= ./...
ARGS ?=

.DEFAULT_GOAL := build
.PHONY: help build demo test test-unit lint fmt bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/tidemark
	go build -trimpath -o bin/tidemark .

demo: ## a small shop in Postgres, searchable, until Ctrl-C
	go run ./testenv/demo $(ARGS)

test: ## the whole suite on real servers, with the race detector
	go run ./testenv/servers -engines $(ENGINES) -- go test -race -timeout 20m $(ARGS) $(PKG)

test-unit: ## the tests that need no server, in seconds
	go test -short $(ARGS) $(PKG)

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, fix it with: make fmt"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

fmt: ## format all Go files
	gofmt -w .

bench: ## throughput beside a plain bulk load, memory and latency; ARGS='-runs 1 -only backfill'
	go run ./bench $(ARGS)

clean: ## remove what the build made; downloads of servers stay in the cache
	rm -rf bin dist
	go clean -testcache
