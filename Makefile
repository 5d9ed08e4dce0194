# Two commands: `make demo` shows Sluice at work, `make test` runs every test. The first needs only Rust; the second
# installs or builds everything else into the user's cache folder. The other targets are parts of these two.

SHELL := /bin/bash
CARGO := cargo
.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster test lint unit real conformance soak bench bench-real crds sbom

help:
	@echo "make demo          Show Sluice at work without a cluster (3 minutes once built; needs only Rust)"
	@echo "make demo-cluster  Show the same on a real cluster and a real Kafka (about 6 minutes once built; Linux, root)"
	@echo "make test          Run every check and every test, also on a real cluster (Linux, root)"
	@echo "make lint          Check format, lints, dependencies, scripts and words"
	@echo "make unit          Run the tests that need no cluster"
	@echo "make real          Run the tests on a real cluster and a real Kafka (Linux, root)"
	@echo "make conformance   Compare the embedded control plane with a real one; a part of make real"
	@echo "make soak          Run SEEDS cases of random faults (default 100,000; hours)"
	@echo "make bench         Run the benchmarks (half an hour); prints, and writes no file"
	@echo "make bench-real    Measure on a real cluster and a real Kafka (an hour; CELLS=\"flash-x30 step\" runs some)"
	@echo "make crds          Write crds/"
	@echo "make sbom          Write the software bill of materials to target/sbom.cdx.json"

# Prints the time of each part at the end.
test:
	@mkdir -p target && rm -f target/times
ifdef CI
	$(CARGO) clean --quiet --workspace
endif
	hack/timed lint $(MAKE) lint
	hack/timed unit $(MAKE) unit
	hack/timed real $(MAKE) real
	@cat target/times

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets --test cluster --test kafka_real --bench real -- --deny warnings
	$(CARGO) clippy --locked --package sluice --no-default-features -- --deny warnings
	"$$(hack/tools cargo-deny)" --log-level error check bans licenses sources
	$(MAKE) sbom
	hack/check-scripts
	hack/check-words

ifdef CI
# CI builds once, in a clone of its own: incremental data and debug information are wasted there. Compiled
# dependencies are kept for the next run.
export CARGO_INCREMENTAL := 0
export CARGO_PROFILE_DEV_DEBUG := 0
export CARGO_TARGET_DIR := $(or $(SLUICE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice)/target
endif

unit:
	hack/timed "unit: compile" $(CARGO) test --locked --workspace --quiet --no-run
	PROPTEST_RNG_SEED=1 SLUICE_SEEDS=1000 hack/timed "unit: run" $(CARGO) test --locked --workspace --quiet

# One test at a time: they share two cores with the cluster, and one of them stops the broker.
real:
	hack/tools helm >/dev/null
	hack/timed "real: compile" $(CARGO) test --locked --no-run --workspace --test kafka_real --test cluster
	hack/timed "real: run, with the testbed" hack/with-testbed $(CARGO) test --locked --no-fail-fast --workspace --test kafka_real --test cluster -- --test-threads 1
	PROPTEST_RNG_SEED=1 hack/timed "real: conformance" $(MAKE) conformance

# Runs the rules of the embedded control plane against a real one, and gives both the same random requests and the
# same commands of kubectl. It needs neither Kafka nor an image. By hand the requests are new each time; as a part of
# `real` they are always the same, so that a random counterexample never blocks an unrelated change.
conformance:
	$(CARGO) test --locked --no-run --workspace --lib
	SLUICE_TEST_IMAGE= SLUICE_TEST_KAFKA_HOST=none hack/with-testbed $(SHELL) -c 'CONFORMANCE_KUBECONFIG=$$KUBECONFIG $(CARGO) test --locked --workspace --lib conformance -- --test-threads 2'

# Runs SEEDS cases of random faults. A case that fails is reduced to a minimum and printed.
SEEDS ?= 100000
soak:
	SLUICE_SEEDS=$(SEEDS) $(CARGO) test --release --locked --package sluice-operator --test faults -- stable::

demo:
	$(CARGO) run --profile demo --locked -- demo

demo-cluster:
	hack/demo

bench:
	$(CARGO) bench --locked

# Real time and real containers: other load on the machine disturbs the measurement. CELLS="flash-x30 step" runs some
# cells, MINUTES=2 cuts each load; only a whole run writes to docs/benchmark.md. See benches/real/main.rs.
bench-real: export BENCH_CELLS := $(CELLS)
bench-real:
	hack/tools helm >/dev/null
	$(CARGO) bench --locked --no-run --bench real
	hack/with-testbed $(CARGO) bench --locked --quiet --bench real -- \
	  $${BENCH_CELLS:+--cells "$$BENCH_CELLS"} $(if $(MINUTES),--minutes $(MINUTES))

crds:
	$(CARGO) run --locked --quiet -- crd > crds/sluice.dev.yaml

sbom:
	mkdir -p target
	hack/sbom target/sbom.cdx.json
