# Every command that CI runs is a target here. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
FLOORS := core workloads serving components tuning pipelines titrate
READY := .venv/.ready
ROLES := serve services train
COMMIT ?= $(shell git rev-parse HEAD)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

##@ Use
.PHONY: demo setup stack
demo: $(READY)  ## from rendered pills to a served release and report.html, one command
	$(BIN)/titrate demo

setup: $(READY)  ## the environment alone (.venv)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on the PATH; install Python 3.11 or say PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet $$(grep '^uv==' requirements.lock)
	@echo "installing the locked environment into .venv"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python .venv requirements.lock
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $(READY)

##@ Check
.PHONY: test lint types layers unit integration test-cluster format
test: $(READY) lint types layers  ## everything below, and the tests on the real engines with coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=40 --cov --cov-report=term --cov-fail-under=85

lint: $(READY)  ## style, complexity, security
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/bandit -q -c pyproject.toml -r $(FLOORS)

types: $(READY)  ## mypy --strict over the floors
	$(BIN)/mypy

layers: $(READY)  ## imports only point down
	$(BIN)/lint-imports

unit: $(READY)  ## the unit tests alone
	$(BIN)/python -m pytest tests/unit

integration: $(READY)  ## the tests on the real engines alone
	$(BIN)/python -m pytest tests/integration

test-cluster: $(READY)  ## the tests on the Kubernetes that KUBECONFIG names (TITRATE_SERVE_IMAGE, TITRATE_SERVICES_IMAGE, TITRATE_TRAIN_IMAGE: the images there)
	$(BIN)/python -m pytest tests/cluster

format: $(READY)  ## put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Measure
.PHONY: conformance bench-rollout bench-drift bench-decode bench-loader bench-train bench-tune bench-gpu bench-serving bench-knee load
conformance: $(READY)  ## the V2 suite against any server: URL=http://... [GRPC=host:port] [MODEL=...]
	@test -n "$(URL)" || { echo "error: say URL=http://host:port" >&2; exit 2; }
	$(BIN)/python -m tests.conformance $(URL) $(if $(GRPC),--grpc $(GRPC)) $(if $(MODEL),--model $(MODEL))

bench-rollout: $(READY)  ## the judge by simulation: error rates, power, bad answers served against other rules
	$(BIN)/python -m benchmarks.rollout_evidence
	$(BIN)/python -m benchmarks.rollout_decide
	$(BIN)/python -m benchmarks.rollout_crash

bench-drift: $(READY)  ## drift: quiet quarters, delay against alibi-detect and an hourly KS, time for the same statistic
	@missed=0; for name in speed delay quiet; do OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.drift_$$name || missed=1; done; exit $$missed

bench-decode: $(READY)  ## decode and resize against PIL
	$(BIN)/python -m benchmarks.decode

bench-loader: $(READY)  ## an epoch of the loader against decoding alone
	$(BIN)/python -m benchmarks.loader

bench-train: $(READY)  ## the platform against a plain script, two processes against two trainings
	$(BIN)/python -m benchmarks.train

bench-tune: $(READY)  ## a sweep against the same trainings as bare subprocesses; what ASHA saves
	$(BIN)/python -m benchmarks.tune
	$(BIN)/python -m benchmarks.tune --asha

bench-gpu: $(READY)  ## on a GPU: images a second, how busy it is, time to accuracy, against two plain scripts
	$(BIN)/python -m benchmarks.gpu

bench-serving: $(READY)  ## serving against the raw loop, Envoy, 90/10, uploads, REST against gRPC (SIDE=96 or 224)
	$(BIN)/python -m benchmarks.serving --side $(or $(SIDE),96)

bench-knee: $(READY)  ## the knee, what happens beyond it, what mirroring costs, memory over time (SECONDS=60)
	$(BIN)/python -m benchmarks.knee --seconds $(or $(SECONDS),60)

load: $(READY)  ## locust: USERS=50 for SECONDS=120 against servers of its own, or URL=http://...; table, CSV and HTML
	$(BIN)/python -m benchmarks.load --users $(or $(USERS),50) --seconds $(or $(SECONDS),120) $(if $(URL),--url $(URL))

##@ Maintain
.PHONY: lock images push sbom audit deploy observability crd clean help
lock: $(READY)  ## compile requirements.lock from pyproject.toml again
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_36 --python-version 3.11 \
	  pyproject.toml $(foreach group,serve services train pipeline tune drift dev,--group $(group)) -o requirements.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_36 --python-version 3.11 \
	  pyproject.toml --group serve -c requirements.lock -o images/serve.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_36 --python-version 3.11 \
	  pyproject.toml --group services -c requirements.lock -o images/services.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_36 --python-version 3.11 \
	  pyproject.toml --group train --group pipeline --group serve --group tune -c requirements.lock -o images/train.lock

images:  ## build the images with Docker, or with BUILDER=podman
	for role in $(ROLES); do \
	  $(or $(BUILDER),docker) build -f images/$$role.Dockerfile -t titrate/$$role:$(VERSION) \
	    --label org.opencontainers.image.version=$(VERSION) --label org.opencontainers.image.revision=$$(git rev-parse HEAD) .; \
	done

push:  ## the images to REGISTRY=..., called by COMMIT=... (default: this one)
	@test -n "$(REGISTRY)" || { echo "error: say REGISTRY=host/name" >&2; exit 2; }
	for role in $(ROLES); do \
	  $(or $(BUILDER),docker) tag titrate/$$role:$(VERSION) $(REGISTRY)/$$role:$(COMMIT); \
	  $(or $(BUILDER),docker) push $(REGISTRY)/$$role:$(COMMIT); \
	done

sbom: $(READY)  ## what each image installs from PyPI, as CycloneDX in build/sbom
	mkdir -p build/sbom
	for role in $(ROLES); do \
	  $(BIN)/cyclonedx-py requirements images/$$role.lock --output-reproducible --spec-version 1.6 -o build/sbom/$$role.cdx.json; \
	done

audit: $(READY)  ## known weaknesses of the locked packages (asks the network)
	$(BIN)/uv tool run pip-audit --no-deps --disable-pip -r requirements.lock

deploy:  ## an overlay (OVERLAY=staging or production) with the images of COMMIT at REGISTRY to the cluster of KUBECONFIG
	@test -n "$(OVERLAY)" -a -n "$(REGISTRY)" || { echo "error: say OVERLAY=staging REGISTRY=host/name" >&2; exit 2; }
	kubectl kustomize kustomize/overlays/$(OVERLAY) \
	  | sed -E 's#image: titrate/([a-z]+)(:[^ ]+)?$$#image: $(REGISTRY)/\1:$(COMMIT)#' \
	  | kubectl apply --server-side -f -
	kubectl -n titrate rollout status deployment --timeout=300s

observability: $(READY)  ## write rules, receivers and tables again from workloads/*/slo.yaml and the code
	$(BIN)/python -m titrate.observability

crd: $(READY)  ## write the definition of ModelRollout again, for kustomize and for the chart
	$(BIN)/python -m titrate.operator.crd > kustomize/base/operator/crd.yaml
	cp kustomize/base/operator/crd.yaml charts/titrate/crds/modelrollout.yaml

clean:  ## remove the environment and the default home
	rm -rf .venv .titrate

help:  ## this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*##/ {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
