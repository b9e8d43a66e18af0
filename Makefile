# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
# Apart: what looks for weaknesses brings much along that nothing else needs.
AUDIT_VENV := .venv-audit
AUDIT_STAMP := $(AUDIT_VENV)/.installed
# Apart: a Matrix homeserver for the tests, under another licence than ours.
HOMESERVER_VENV := .venv-homeserver
HOMESERVER_STAMP := $(HOMESERVER_VENV)/.installed
# Proxies, a browser, and what engines of containers take: each program, and the package that has it where that is
# called otherwise.
NEEDS := nginx caddy chromium dockerd:docker.io docker:docker.io podman debootstrap git ssh:openssh-client ip:iproute2
LOCKS := requirements.lock requirements-bench.lock requirements-homeserver.lock requirements-audit.lock
# Those that README shows.
PICTURES := overview-laptop-light overview-laptop-dark story-laptop-light story-laptop-dark \
	pictures-laptop-light pictures-laptop-dark
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup needs run test faults fuzz lint screenshots format bench bench-quick lock audit clean

help:  ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv with everything locked, and .venv/bin/huskies.

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "huskies needs Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(BENCH_STAMP): requirements-bench.lock $(STAMP)
	$(BIN)/pip install --quiet --require-hashes -r requirements-bench.lock
	touch $@

$(HOMESERVER_STAMP): requirements-homeserver.lock
	test -x $(HOMESERVER_VENV)/bin/python || $(PYTHON) -m venv $(HOMESERVER_VENV)
	$(HOMESERVER_VENV)/bin/pip install --quiet --require-hashes -r requirements-homeserver.lock
	touch $@

needs:  ## Install the programs that some tests start, where they are missing (Debian's apt, as root).
	@missing=; for need in $(NEEDS); do \
		PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v $${need%%:*} >/dev/null || missing="$$missing $${need#*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
		echo "missing:$$missing; install them, or run make needs as root where there is apt-get" >&2; exit 1; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

run: $(STAMP)  ## Watch this repository itself: a gateway, a sled and the dashboard.
	$(BIN)/huskies up .

test: $(STAMP) $(HOMESERVER_STAMP)  ## Run the tests.
	$(BIN)/python -m pytest -n 3 --dist loadgroup

faults: $(STAMP) $(HOMESERVER_STAMP)  ## Put real processes under every fault, in full size (2,000 s of a processor).
	$(BIN)/python -m faults

fuzz: $(STAMP)  ## Make up a million of what comes from outside, and see it refused (ten minutes of a processor).
	$(BIN)/python -m fuzz

lint: $(STAMP)  ## Check style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

screenshots: $(STAMP)  ## Take pictures of the dashboard: all into build/screenshots, those of README into docs/pictures.
	$(BIN)/python -m tests.browser.screenshots build/screenshots
	mkdir -p docs/pictures
	for name in $(PICTURES); do cp build/screenshots/$$name.png docs/pictures/; done

format: $(STAMP)  ## Put the code into its form.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(BENCH_STAMP)  ## Measure, side by side with what users would pick instead (about eight minutes).
	$(BIN)/python -m bench

bench-quick: $(BENCH_STAMP)  ## The same at tiny sizes, to see that it runs.
	$(BIN)/python -m bench --quick

lock:  ## Lock the dependencies anew (needs uv).
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml --group dev -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group bench -c requirements.lock -o requirements-bench.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group homeserver -o requirements-homeserver.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group audit -o requirements-audit.lock

$(AUDIT_STAMP): requirements-audit.lock
	test -x $(AUDIT_VENV)/bin/python || $(PYTHON) -m venv $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/pip install --quiet --require-hashes -r requirements-audit.lock
	touch $@

audit: $(AUDIT_STAMP)  ## Look for known weaknesses in what is locked (asks pypi.org).
	$(AUDIT_VENV)/bin/pip-audit --strict --disable-pip --require-hashes $(addprefix -r ,$(LOCKS))

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) $(AUDIT_VENV) $(HOMESERVER_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
