# The complete interface for developers of this project. Each target prints what it is doing, works on a fresh clone,
# installs what it needs (into the user's cache, or with apt-get as root), and leaves no processes running.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CRDS := oauthintegrations oauthproviders clusteroauthproviders
CHART_FILES := charts/oauth-operator/files

# Who publishes the image and the chart on ghcr.io. To change it everywhere: make owner OWNER=name
OWNER ?= evolutionx

# Root may work in a checkout of another user (`sudo make test`), which git otherwise rejects.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

# The end-to-end tests mostly wait for tokens, leases and servers, so more of them run at once than there are CPUs.
IT_THREADS ?= 6

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: ## Demo on this machine: an integration, its token Secret, and renewals as they happen
	@echo "==> building the operator and the demo"
	cargo test --locked --test demo

.PHONY: test
test: ## Run everything that CI runs
	hack/shared-target $(MAKE) --no-print-directory all-tests

.PHONY: all-tests
all-tests: export CANARY_RECORD := $(CURDIR)/target/canary
all-tests: lint
	rm -rf "$$CANARY_RECORD"
	@echo "==> tools for the tests (built once, then cached)"
	tests/tools/install kubernetes node helm prometheus prometheus-operator keycloak django keystone oidc-provider hydra zitadel-oidc consumers gitops \
	  buildah preload nginx crane cosign qemu jq >/dev/null
	@echo "==> binaries of a release, and the container image that one of the tests starts"
	$(MAKE) --no-print-directory binaries
	hack/image
	@echo "==> unit tests, which need no server"
	cargo test --locked --no-fail-fast --lib --bins --test unit
	@echo "==> end-to-end tests, on real servers, and beside them the demo; the output of each is printed at its end"
	cargo test --locked --no-run --test it --test demo
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target test-it demo
	@echo "==> side by side, because the tests mostly wait; the output of each is printed at its end:"
	@echo "    a release on real nodes with every command of the documentation, then fuzzing with a fixed number of inputs in a"
	@echo "    fixed order (longer, with random inputs: make fuzz FUZZ_SECONDS=600);"
	@echo "    attacks of one tenant on others, then the faults, shortened (in full: make test-faults)"
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target nodes-and-fuzz attacks-and-faults
	@echo "==> search the output of all tests for secrets"
	cargo test --locked --test canary

.PHONY: test-it
test-it:
	cargo test --locked --no-fail-fast --test it -- --test-threads=$(IT_THREADS) $(IT)

.PHONY: nodes-and-fuzz
nodes-and-fuzz:
	$(MAKE) --no-print-directory e2e
	FUZZ_SEED=1 FUZZ_RUNS=short $(MAKE) --no-print-directory fuzz

# One after the other: the operator of the faults is another build (with failpoints) at the same path.
.PHONY: attacks-and-faults
attacks-and-faults:
	$(MAKE) --no-print-directory test-attacks
	FAULTS_SHORT=1 FAULT_SECONDS=1 $(MAKE) --no-print-directory test-faults

.PHONY: test-faults
test-faults: ## Recovery after each of 48 faults; FAULT_SECONDS=3 sets their duration, FAULTS=text selects by name
	cargo test --locked --features failpoints --test faults -- --nocapture

.PHONY: test-attacks
test-attacks: ## Attacks of one tenant on others; ATTACK=text selects by name
	cargo test --locked --no-fail-fast --test attacks -- --test-threads=3 $(ATTACK)

.PHONY: test-unit
test-unit: ## Run the tests that need no server
	cargo test --locked --lib --bins --test unit

.PHONY: fuzz
fuzz: ## Run each target of fuzz/; FUZZ_SECONDS=60 sets the time for each
	hack/fuzz

.PHONY: audit
audit: ## Check dependencies for known vulnerabilities; ADVISORY_DB=directory works without a network
	hack/audit

.PHONY: reproducible
reproducible: ## Build the binary twice, in different directories, and compare (10 min)
	hack/reproducible

.PHONY: lint
lint: ## Check format, clippy, licenses and sources of dependencies, workflows, the README of the chart, and the documentation site
	@echo "==> format"
	cargo fmt --all --check
	@echo "==> clippy"
	cargo clippy --locked --workspace --all-targets --all-features -- --deny warnings
	@echo "==> licenses, bans and sources of the dependencies"
	"$$(tests/tools/install cargo-deny)/cargo-deny" --log-level error --workspace check licenses bans sources
	@echo "==> workflows"
	"$$(tests/tools/install actionlint)/actionlint"
	@echo "==> version and README of the chart"
	hack/version
	"$$(tests/tools/install helm-docs)/helm-docs" --chart-search-root charts --sort-values-order file --log-level error --dry-run \
	  | diff charts/oauth-operator/README.md - || { echo "the README of the chart is not up to date: run make chart-docs" >&2; exit 1; }

	@echo "==> documentation site, and its links"
	$(MAKE) --no-print-directory docs >/dev/null
	hack/site-links target/book

.PHONY: docs
docs: ## Build the documentation site, into target/book
	"$$(tests/tools/install mdbook)/mdbook" build
	@echo "$(CURDIR)/target/book/index.html"

.PHONY: docs-archive
docs-archive: docs
	hack/site-links target/book
	tar --create --file target/artifact.tar --directory target/book .

.PHONY: crds
crds: ## Generate everything that is generated from the code: CRDs, and parts of docs and of gitops
	for name in $(CRDS); do \
	  cargo run --locked --quiet -- crd $$name > crds/$$name.yaml.part; \
	  mv crds/$$name.yaml.part crds/$$name.yaml; \
	  cp crds/$$name.yaml $(CHART_FILES)/$$name.yaml; \
	done
	UPDATE_DOCS=1 cargo test --quiet --locked --test unit -- fields:: messages:: reason_pages:: pictures:: metrics:: statuses:: gitops::

.PHONY: bench
bench: ## Lateness, time, calls and memory under load, with a baseline; BENCH=text selects by name (all: 45 min)
	@echo "==> building with optimization"
	cargo bench --locked --bench load

.PHONY: chart-docs
chart-docs: ## Generate the README of the chart from its values.yaml
	"$$(tests/tools/install helm-docs)/helm-docs" --chart-search-root charts --sort-values-order file --log-level error

.PHONY: version
version: ## Set the version of the project: VERSION=1.2.3
	hack/version "$(VERSION)"

.PHONY: owner
owner: ## Set who publishes the image and the chart: OWNER=name
	hack/owner "$(OWNER)"

.PHONY: release
release: export VERSION := $(VERSION)
release: ## Build, sign and push a release: VERSION=1.2.3 REGISTRY=registry.example.com/team SIGN=key (docs/releases.md)
	hack/release

.PHONY: binaries
binaries: ## Compile the binaries of a release for amd64 and arm64, into target/release-binaries
	hack/build target/release-binaries amd64 arm64

.PHONY: publish
publish: export VERSION := $(VERSION)
publish: export OWNER := $(OWNER)
publish: export BINARIES := target/release-binaries
publish:
	hack/publish

.PHONY: e2e
e2e: ## Release, install and use the operator on real nodes on this machine (needs root)
	cargo test --locked --test e2e -- --nocapture

.PHONY: image
image: ## Build the container image, without a container engine
	hack/image
