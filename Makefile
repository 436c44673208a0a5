# The developer manual: every chore is a target. Each sets up what it needs, below .venv and .build.
#
#   make demo       run the main job end to end and narrate it (against a test double, or OpenAI: see make demo)
#   make test       run the tests, but for those that take minutes each
#   make test-long  run the others: each crash and race on the store in Vault, too, and a thousand rotations
#   make test-random  the model test with other examples each time
#   make test-crashes  every accident with every scenario of the crash harness, on both stores: takes an hour
#   make test-installed  the same tests as make test on the collection as users install it: built, then installed with ansible-galaxy
#   make dev        set up what development needs; HOOK=yes has git check each commit, by pre-commit
#   make lint       ruff, mypy, ansible-lint (production profile), codespell, actionlint, changelog
#   make sanity     ansible-test sanity, and a trial of ansible-test units and integration
#   make docs       check the documentation and build the site .build/docs/site of it, without a network
#   make galaxy     galaxy-importer, the checks of Ansible Galaxy, on the tarball
#   make molecule   the molecule scenarios
#   make image      build the execution environment with podman, and run the demo in it; needs root
#   make bench      print the budgets, measured
#   make prometheus get Prometheus, node_exporter and Pushgateway for the tests, from Debian's packages, without installing them
#   make awx        get the collection awx.awx for the tests of the guide to AWX
#   make picture    draw the picture of the dashboard in the docs, from a real Prometheus' answers
#   make live       the main job's checks against the real OpenAI
#   make release    check that a release can be made, write its changelog and build its tarball; publishes nothing
#   make clean      forget what was set up
#
# Tests run as an ordinary user even if root calls make. PYTHON chooses the interpreter (3.11 or newer), CORE the ansible-core release (default: the newest for it).

PYTHON ?= python3
CORE ?=
PYTEST_ARGS ?=
HOOK ?=
TESTS ?= tests

LEG := $(notdir $(PYTHON))$(if $(CORE),-core$(CORE))
VENV := .venv/$(LEG)
LINT_VENV := .venv/lint
COLLECTIONS := .build/collections
SELF := $(COLLECTIONS)/ansible_collections/ephemeral/openai
INSTALLED := .build/installed
DOCS_VENV := .venv/docs
GALAXY_VENV := .venv/galaxy
TARBALL := .build/tarball
PYTEST = .ci/as-user $(VENV)/bin/python -m pytest -n 4 --dist worksteal
# As whoever calls it, since only root can add a user.
FRESH_USER := tests/integration/test_fresh_user.py
PIP := -m pip --disable-pip-version-check --quiet install

export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/$(COLLECTIONS)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo prometheus test test-long test-random test-crashes test-installed tarball lint docs galaxy sanity molecule image picture bench awx live dev release clean
help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/ready: requirements.txt tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) "ansible-core>=2.19$(if $(CORE),$(comma)==$(CORE).*)" -r requirements.txt -r tests/requirements.txt
	touch $@
comma := ,

$(LINT_VENV)/ready: tests/requirements-lint.txt requirements.txt
	$(PYTHON) -m venv $(LINT_VENV)
	$(LINT_VENV)/bin/python $(PIP) -r tests/requirements-lint.txt -r requirements.txt
	touch $@

# Ansible finds a collection by the names of its folders, so a checkout of any name is linked to where they fit.
$(SELF):
	mkdir -p $(dir $@)
	ln -sfn ../../../.. $@

demo: $(VENV)/ready $(SELF)
	$(VENV)/bin/python tests/demo.py

test: $(VENV)/ready $(SELF)
	.ci/tests $(VENV)/bin/python -m "not long" $(PYTEST_ARGS) $(TESTS)

test-long: export OPENAI_CREDS_TEST_ROTATIONS ?= 1000
test-long: $(VENV)/ready $(SELF)
	$(PYTEST) -m long --timeout 1200 $(PYTEST_ARGS) tests --ignore $(FRESH_USER)
	$(VENV)/bin/python -m pytest -m long --timeout 1200 $(FRESH_USER)

# The seed is shown, and PYTEST_ARGS=--hypothesis-seed=SEED repeats it.
test-random: export OPENAI_CREDS_TEST_RANDOM := 1
test-random: $(VENV)/ready $(SELF)
	$(PYTEST) --timeout 1200 --hypothesis-seed=$$$$ $(PYTEST_ARGS) tests/unit/model

test-crashes: export OPENAI_CREDS_TEST_CRASHES := all
test-crashes: $(VENV)/ready $(SELF)
	$(PYTEST) -m long --timeout 1200 $(PYTEST_ARGS) tests/unit/crashes

prometheus:
	rm -rf .build/prometheus
	mkdir -p .build/prometheus/packages
	cd .build/prometheus/packages && apt-get download -qq prometheus prometheus-node-exporter prometheus-pushgateway
	for package in .build/prometheus/packages/*.deb; do dpkg -x "$$package" .build/prometheus || exit; done

tarball: $(VENV)/ready
	rm -rf $(TARBALL)
	$(VENV)/bin/ansible-galaxy collection build --output-path $(TARBALL)

test-installed: export OPENAI_CREDS_TEST_COLLECTIONS := $(INSTALLED)
test-installed: export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/$(INSTALLED)
test-installed: tarball $(SELF)
	rm -rf $(INSTALLED)
	$(VENV)/bin/ansible-galaxy collection install --offline --collections-path $(INSTALLED) $(TARBALL)/*.tar.gz
	.ci/tests $(VENV)/bin/python -o pythonpath="tests $(INSTALLED)" -m "not long" $(PYTEST_ARGS) tests

# What the bench compares with comes with Ansible's community package.
.build/community/ready: $(VENV)/ready
	$(VENV)/bin/python $(PIP) --no-deps --target .build/community ansible
	touch $@

# The tests of the guide to AWX want the collection awx.awx, which comes with Ansible's community package before 14.
awx: .build/awx/ready
.build/awx/ready: $(VENV)/ready
	rm -rf .build/awx
	$(VENV)/bin/python -m pip --disable-pip-version-check --quiet download --no-deps --only-binary :all: --dest .build/awx "ansible<14"
	cd .build/awx && $(CURDIR)/$(VENV)/bin/python -c 'import glob, zipfile; wheel = zipfile.ZipFile(*glob.glob("ansible-*.whl")); \
		wheel.extractall(members=[name for name in wheel.namelist() if name.startswith("ansible_collections/awx/")])'
	rm .build/awx/ansible-*.whl
	touch $@

picture: $(VENV)/ready $(SELF) prometheus
	$(VENV)/bin/python $(PIP) --target .build/picture matplotlib
	PYTHONPATH=.build/picture $(VENV)/bin/python tests/picture.py docs/grafana/openai_creds.png

image: tarball
	.ci/image $(VENV)/bin/python tests/image.py $(TARBALL)/*.tar.gz

bench: $(VENV)/ready $(SELF) .build/community/ready
	$(VENV)/bin/python tests/bench

live: $(VENV)/ready $(SELF)
	$(VENV)/bin/python tests/live.py

lint: $(LINT_VENV)/ready $(SELF)
	$(LINT_VENV)/bin/ruff check .
	$(LINT_VENV)/bin/ruff format --check .
	cd $(COLLECTIONS) && "$(CURDIR)/$(LINT_VENV)/bin/mypy" --config-file "$(CURDIR)/pyproject.toml"
	PATH="$(CURDIR)/$(LINT_VENV)/bin:$$PATH" ansible-lint --offline --profile production
	$(LINT_VENV)/bin/codespell
	.ci/workflows
	$(LINT_VENV)/bin/antsibull-changelog lint

dev: $(VENV)/ready $(LINT_VENV)/ready $(SELF)
ifneq ($(HOOK),)
	$(LINT_VENV)/bin/pre-commit install
endif

release: $(LINT_VENV)/ready
	$(LINT_VENV)/bin/python .ci/release.py .build/release

$(DOCS_VENV)/ready: docs/site/requirements.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python $(PIP) -r docs/site/requirements.txt
	touch $@

docs: $(DOCS_VENV)/ready
	.ci/docs $(DOCS_VENV)

$(GALAXY_VENV)/ready: tests/requirements-galaxy.txt
	$(PYTHON) -m venv $(GALAXY_VENV)
	$(GALAXY_VENV)/bin/python $(PIP) -r tests/requirements-galaxy.txt
	touch $@

galaxy: tarball $(GALAXY_VENV)/ready
	.ci/galaxy $(GALAXY_VENV) $(TARBALL)/*.tar.gz

# ansible-test insists on a real path .../ansible_collections/ephemeral/openai, and on a checkout of its own.
sanity: $(VENV)/ready
	.ci/sanity $(VENV)/bin/ansible-test

molecule: $(LINT_VENV)/ready $(VENV)/ready $(SELF)
	.ci/molecule

clean:
	rm -rf .venv .build .cache
