# The whole interface for people who work on this project. Each target prints what it is doing, works on a fresh clone,
# installs what it needs (into the user's cache, or with apt-get as root), and leaves nothing running.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CRD := crds/oauthintegrations.yaml
CHART_CRD := charts/oauth-operator/files/oauthintegrations.yaml

# The tests run in three lanes beside each other: most of their time goes by with waiting for tokens, leases and servers.
LANE_1 := leading renewing rotation
LANE_2 := failing giving_back going hostile reacting requests sacred
# `faults` needs a build of its own; `canary` searches what all the others have shown.
LANE_3 := $(filter-out $(LANE_1) $(LANE_2) faults canary,$(basename $(notdir $(wildcard tests/*.rs))) crd)

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: ## The main job, live on this machine: an integration becomes a Secret that is renewed before your eyes
	@echo "==> building the operator and the demo"
	cargo test --locked --test demo

.PHONY: test
test: ## Everything that CI runs
	hack/shared-target $(MAKE) --no-print-directory all-tests

.PHONY: all-tests
all-tests: export CANARY_RECORD := $(CURDIR)/target/canary
all-tests: lint
	rm -rf "$$CANARY_RECORD"
	@echo "==> tools for the tests (built once, then taken from the cache)"
	tests/tools/install kubernetes helm keycloak django oidc-provider buildah preload >/dev/null
	@echo "==> the image that one of the tests starts"
	hack/image
	@echo "==> tests, on real servers, in three lanes; two of them are shown when they have ended"
	cargo test --locked --no-run
	logs=$$(mktemp -d); code=0; \
	cargo test --locked --no-fail-fast $(addprefix --test ,$(LANE_1)) >"$$logs/1" 2>&1 & first=$$!; \
	cargo test --locked --no-fail-fast $(addprefix --test ,$(LANE_2)) >"$$logs/2" 2>&1 & second=$$!; \
	cargo test --locked --no-fail-fast --lib --bins $(addprefix --test ,$(LANE_3)) || code=1; \
	wait $$first || code=1; wait $$second || code=1; cat "$$logs"/*; rm -rf "$$logs"; exit $$code
	@echo "==> faults, in the short form (all of them: make test-faults)"
	FAULTS_SHORT=1 FAULT_SECONDS=1 cargo test --locked --features failpoints --test faults -- --nocapture
	@echo "==> nothing secret was shown by all of this"
	cargo test --locked --test canary
	@echo "==> fuzzing, in the short form, in the same order each time (longer, in another: make fuzz FUZZ_SECONDS=600)"
	FUZZ_SEED=1 hack/fuzz

.PHONY: test-faults
test-faults: ## Every token is fresh again after each of 46 faults; FAULT_SECONDS=3 and FAULTS=text choose
	cargo test --locked --features failpoints --test faults -- --nocapture

.PHONY: test-unit
test-unit: ## The tests that need no server
	cargo test --locked --lib --bins --test deciding --test oauth --test fetch

.PHONY: fuzz
fuzz: ## Inputs that nobody has thought of, for each target of fuzz/; FUZZ_SECONDS=60 for each of them
	hack/fuzz

.PHONY: audit
audit: ## Known weaknesses of the dependencies; ADVISORY_DB=folder where there is no network
	hack/audit

.PHONY: reproducible
reproducible: ## The binary built twice, elsewhere, and compared (10 min)
	hack/reproducible

.PHONY: lint
lint: ## Format, clippy, licences and sources of dependencies
	@echo "==> format"
	cargo fmt --all --check
	@echo "==> clippy"
	cargo clippy --locked --workspace --all-targets --all-features -- --deny warnings
	@echo "==> licences, bans and sources of the dependencies"
	"$$(tests/tools/install cargo-deny)/cargo-deny" --log-level error --workspace check licenses bans sources

.PHONY: crds
crds: ## The CRD, generated from src/api.rs, for kubectl and for the chart
	cargo run --locked --quiet -- crd > $(CRD).part
	mv $(CRD).part $(CRD)
	cp $(CRD) $(CHART_CRD)

.PHONY: bench
bench: ## Lateness, time, calls and memory under load, beside the same writes made bare; BENCH=text picks (all: 45 min)
	@echo "==> building with optimisation"
	cargo bench --locked --bench load

.PHONY: image
image: ## The container image, without a container engine
	hack/image
