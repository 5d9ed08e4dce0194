# Two commands: `make demo` shows Sluice at work, `make test` runs every test. The first needs nothing but Rust; the second
# installs or builds what it needs into the user's cache folder. The rest are the parts that these are made of.

SHELL := /bin/bash
CARGO := cargo
.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster test lint unit real conformance soak bench bench-real crds sbom

help:
	@echo "make demo   show Sluice at work, all in one process and its workers (3 minutes once built; needs nothing but Rust)"
	@echo "make demo-cluster   the same on a real cluster and a real Kafka, which it brings up (about 6 minutes; root, Linux)"
	@echo "make test   every test, the real cluster too (root, Linux)"
	@echo "make lint   format, clippy, dependencies, scripts"
	@echo "make unit   the tests that need no cluster"
	@echo "make real   the tests on a real cluster and a real Kafka"
	@echo "make conformance   the embedded control plane beside a real one; a part of make real"
	@echo "make soak   random faults, 100,000 cases or SEEDS=N (hours)"
	@echo "make bench  the benchmarks (half an hour, most of it Sluice beside other autoscalers on simulated jobs)"
	@echo "make bench-real   Sluice on a real cluster and a real Kafka beside KEDA's figures (an hour; CELLS=\"flash-x30 step\": some)"
	@echo "make crds   write crds/ anew"
	@echo "make sbom   write the software bill of materials, target/sbom.cdx.json"

test: lint unit real

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets --test cluster --test kafka_real --bench real -- --deny warnings
	$(CARGO) clippy --locked --package sluice --no-default-features -- --deny warnings
	"$$(hack/tools cargo-deny)" --log-level error check bans licenses sources
	$(MAKE) sbom
	hack/check-scripts

ifdef CI
# CI builds once: incremental data and debug information are wasted there.
unit real conformance: export CARGO_INCREMENTAL := 0
unit real conformance: export CARGO_PROFILE_DEV_DEBUG := 0
endif

unit:
	PROPTEST_RNG_SEED=1 SLUICE_SEEDS=1000 $(CARGO) test --locked --workspace --quiet

# One test at a time: they share two cores with the cluster, and one of them stops the broker.
real:
	hack/tools helm >/dev/null
	$(CARGO) test --locked --no-run --workspace --test kafka_real --test cluster
	hack/with-testbed $(CARGO) test --locked --no-fail-fast --workspace --test kafka_real --test cluster -- --test-threads 1
	PROPTEST_RNG_SEED=1 $(MAKE) conformance

# What holds of the embedded control plane is asked of a real one too, and both are given the same random requests and the
# same commands of kubectl. It needs neither Kafka nor an image. By hand the requests are others each time, as a part of
# `real` the same ones: what is found by chance must not stop who has changed something else.
conformance:
	$(CARGO) test --locked --no-run --package embedded-kubernetes --lib
	SLUICE_TEST_IMAGE= SLUICE_TEST_KAFKA_HOST=none hack/with-testbed $(SHELL) -c 'CONFORMANCE_KUBECONFIG=$$KUBECONFIG $(CARGO) test --locked --package embedded-kubernetes --lib conformance -- --test-threads 2'

# Random faults, so many cases; one that fails is made as small as it gets, and printed.
SEEDS ?= 100000
soak:
	SLUICE_SEEDS=$(SEEDS) $(CARGO) test --release --locked --package sluice-operator --test faults -- stable::

demo:
	$(CARGO) run --release --locked -- demo

demo-cluster:
	hack/demo

bench:
	$(CARGO) bench --locked

# Real time, real containers: what is measured is disturbed by whatever else the machine does. CELLS="flash-x30 step" runs some,
# MINUTES=2 cuts each load; only a whole run writes to docs/benchmark.md. benches/real/main.rs
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
