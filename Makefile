# make help   what there is

# Everything is built and checked with the release of Go that go.mod names, fetched if the
# installed one is another: make GOTOOLCHAIN=local takes that one.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)

# The search servers that `make test` runs every suite against, separated by commas, or all. One test
# goes the way of a document on all of them, whatever stands here: TestEveryEngine.
ENGINES ?= opensearch,elasticsearch8

# Which tests, and how: make test PKG=./dbsync ARGS='-run TestRun -v'
# ARGS are also those of make demo and make bench, which have -help.
PKG ?= ./...
ARGS ?=

# The version of the database that `make audit` asks. One is named, so that a commit is judged
# alike on every day; to see what has become known since: make audit VULNDB=latest
VULNDB ?= v0.0.0-20261105234957-e22db6528018

.DEFAULT_GOAL := build
.PHONY: help build demo test test-matrix test-unit chaos lint audit fmt bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/tidemark
	go build -trimpath -o bin/tidemark .

demo: ## a small shop in Postgres, searchable, until Ctrl-C
	go run ./testenv/demo $(ARGS)

test: ## the whole suite on real servers, with the race detector
	go run ./testenv/servers -engines $(ENGINES) -kafka -- go test -race -timeout 40m $(ARGS) $(PKG)

# What make test-matrix runs the whole suite with: each search server, and each version of Postgres
# with the first of them.
MATRIX_ENGINES ?= opensearch opensearch2 opensearch1 elasticsearch9 elasticsearch8 elasticsearch7
MATRIX_POSTGRES ?= 14 15 16 17 18

test-matrix: ## the whole suite on each search server, and on Postgres 14 to 18: hours
	@for engine in $(MATRIX_ENGINES); do \
		echo "make test ENGINES=$$engine"; \
		$(MAKE) --no-print-directory test ENGINES=$$engine || exit; done
	@for version in $(MATRIX_POSTGRES); do \
		echo "make test TIDEMARK_TEST_POSTGRES_VERSION=$$version"; \
		TIDEMARK_TEST_POSTGRES_VERSION=$$version $(MAKE) --no-print-directory test ENGINES=$(firstword $(MATRIX_ENGINES)) || exit; done

test-unit: ## the tests that need no server, in seconds
	go test -short $(ARGS) $(PKG)

# What make chaos draws faults and changes from (nothing: a seed of its own, which it prints), how
# long it goes on, and against which search server. ARGS: -kafka, -faults, -without, -race, …
SEED ?=
MINUTES ?= 2
ENGINE ?= opensearch

chaos: ## everything goes wrong that a seed draws: make chaos SEED=7 MINUTES=10
	go run ./testenv/chaos -seed "$(SEED)" -minutes $(MINUTES) -engine $(ENGINE) $(ARGS)

# stringsbuilder would have each text that is put together in a few steps be a Builder.
lint: ## gofmt, go vet, staticcheck; go.mod is tidy, go fix has nothing to do
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, run: make fmt"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go fix -stringsbuilder=false -diff ./...

audit: ## known vulnerabilities in what the code calls, by govulncheck
	go run ./testenv/vulncheck -database $(VULNDB) ./...

fmt: ## gofmt, go mod tidy, go fix
	gofmt -w .
	go mod tidy
	go fix -stringsbuilder=false ./...

# A commit that make bench has take turns with this tree: make bench BASE=main ARGS='-sink -short'
BASE ?=

bench: ## each workload beside its limits; ARGS='-sink -short -only catchup', BASE=a commit to compare with
	go run ./bench $(if $(BASE),-base $(BASE)) $(ARGS)

clean: ## remove what the build made; downloads of servers stay in the cache
	rm -rf bin dist
	go clean -testcache
