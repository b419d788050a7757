# Everything is in ops/: this file only names it. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
STACK ?= dev
export STACK
PYTHON ?= python3
# What may be typed after `make`, for each target that takes words; STACK is for all.
words.up := SOURCE HOST
words.ask := Q MODEL
words.key := NAME ROTATE OVERLAP REVOKE
words.basic := NAME REMOVE
words.client := APP NAME
words.env := SOURCE
words.logs := S
words.preview := SOURCE HOST
words.plan := FORMAT GGUF MODEL
words.calibrate := RUN RATES DEPTH
words.load := PROFILE MIX USERS RATE SEARCH REPLAY SPEED FOR RAMP BUDGET ARRIVALS SLO MODEL SEED PROCESSES TIMEOUT OUT \
	GATE TAX DIRECT URL KEY CA
words.baseline := RUN
words.size := RUN PEOPLE SLO MODEL INPUT SPREAD CACHED OUTPUT THINK ACTIVE GPU_PRICE HOST_PRICE API_PRICE KWH MONTHS \
	CURRENCY DOLLAR HOURS PEAK_SHARE HOST_W HOST_IDLE_W CARD_W CARD_IDLE_W FORMAT APPLY
words.doctor := SOURCE HOST MODEL
words.down := SOURCE
words.destroy := SOURCE DATA CONFIRM
words.adopt := SOURCE HOST CONFIRM
words.contract := URL KEY CA WRONG_PASSWORDS SLOW
words.attack := SEED N ONLY REST
words.bench-deploy := COLD SOURCE
words.bench-gateway := QUICK
words.bench-client := QUICK
# Shells export such names for reasons of their own (WSL: NAME, the computer's): only what is typed after `make` counts,
# but for the one that others must not see.
WORDS := $(filter-out KEY,$(sort $(foreach row,$(filter words.%,$(.VARIABLES)),$($(row)))))
typed = $(filter command line,$(origin $(1)))
$(foreach word,$(WORDS),$(if $(call typed,$(word)),,$(eval unexport $(word))))
OPS = @$(PYTHON) -m ops.venv runtime && exec .venv/bin/python -m ops
DEV = @$(PYTHON) -m ops.venv dev
# What is typed after `make` stands in the list of processes.
SEEN := error: KEY=… typed after make can be seen by others: leave it out, and type `read -rs KEY && export KEY` first
UNSEEN = @$(if $(filter command line,$(origin KEY)),echo '$(SEEN)' >&2; exit 2)

TARGETS := help up ask open status logs plan calibrate load baseline size preview down destroy env trust ca-renew password \
	key keys basic client adopt doctor check test lint format gateway-test contract attack lock locks-python bench-deploy \
	bench-gateway bench-client bench-search bench-planner
.PHONY: $(TARGETS)

# A misspelt word would change nothing, and `make load USERS 3` would load first. Names are handed on, never values.
GOALS := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
OURS := $(filter $(TARGETS),$(GOALS))
TYPED := $(foreach name,$(.VARIABLES),$(if $(call typed,$(name)),$(name)))
STRAY := $(filter-out STACK PYTHON SHELL .SHELLFLAGS MAKE% MFLAGS GNUMAKEFLAGS $(foreach goal,$(OURS),$(words.$(goal))),$(TYPED))
NO_TARGET := $(filter-out $(TARGETS),$(GOALS))
quoted = '$(subst ','\'',$(strip $(1)))'
ifneq ($(and $(OURS),$(strip $(STRAY) $(NO_TARGET))),)
$(shell $(PYTHON) -m ops.typed $(call quoted,$(OURS)) $(call quoted,$(STRAY)) $(call quoted,$(NO_TARGET)) \
	$(foreach target,$(TARGETS),'$(target)=$(words.$(target))') >&2)
$(error nothing was done)
endif

help: ## this list
	@awk 'BEGIN {FS = ":.*## "; print "make TARGET [STACK=dev]\n"} \
	/^## / {printf "\n%s\n", substr($$0, 4)} \
	/^[a-z-]+:.*## / {gsub(/\$$\$$/, "$$", $$2); printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

## use it
up: ## install what is missing, deploy, print the addresses [SOURCE=official|mirror] [HOST=none]
	$(OPS) up
ask: ## ask the model through the gateway: Q="…" [MODEL=default]
	$(OPS) ask
open: ## open the chat in a browser
	$(OPS) open
password: ## show the administrator's sign-in of the chat
	$(OPS) password
key: ## this machine's API key; NAME=… makes one and shows it once [ROTATE=1 OVERLAP=24h] [REVOKE=1]
	$(OPS) key
keys: ## who has a key, for what, until when
	$(OPS) keys
basic: ## let NAME=… sign in with a password of its choice too [REMOVE=1]
	$(OPS) basic
client: ## ready configuration for an app: APP=continue|openai|… [NAME=default]
	$(OPS) client
env: ## settings for this shell: eval "$$(make -s env)"
	@$(PYTHON) -m ops.venv runtime >&2 && exec .venv/bin/python -m ops env
ca-renew: ## a new certificate authority, after new host names
	$(OPS) ca-renew
trust: ## let this computer trust the gateway's certificate
	$(OPS) trust

## look after it
status: ## services, health, images, memory
	$(OPS) status
logs: ## follow the logs of a service: S=chat
	$(OPS) logs
preview: ## what `up` would change
	$(OPS) preview
plan: ## whether the models fit, and what would [FORMAT=json] [GGUF=file, https://… or an Ollama's address with MODEL=…: this model in place of the stack's]
	$(OPS) plan
calibrate: ## what this machine was measured to do, for the plan: RUN=<folder of a load run> | RATES="model=answers:tokens/s,… …" [DEPTH=512]
	$(OPS) calibrate
load: ## how much this box bears: [PROFILE=chat] [USERS=… | RATE=… | SEARCH=users|rate] [FOR=2m] [SLO=…] [TAX=1 [DIRECT=…]]; URL=… [CA=…], its KEY exported
	$(UNSEEN)
	$(DEV)
	@.venv/bin/python -m ops load
baseline: ## keep the newest load run [RUN=folder] for this hardware, model and load: `make load … GATE=1` with the same words is held against it
	$(DEV)
	@.venv/bin/python -m loadtests.compare.baseline
size: ## how many people this box serves, and what to buy: [RUN=folder(s)] [PEOPLE=20] [GPU_PRICE=… KWH=0.30 …] [FORMAT=json] [APPLY=1]
	$(DEV)
	@.venv/bin/python -m ops size
doctor: ## check the host and get one streamed token
	$(OPS) doctor
down: ## stop the containers; `make up` starts them again
	$(OPS) down
destroy: ## remove the platform, keep its data [DATA=delete removes that too; CONFIRM=<its stack> without asking]
	$(OPS) destroy
adopt: ## take over existing volumes after the state folder was lost
	$(OPS) adopt

## change it
check: lint gateway-test ## format, lint, types, fast tests (under 90 s)
	@.venv/bin/python -m pytest -q -m "not contract and not tools and not live"
test: lint gateway-test ## check, and the tests on real tools and a real Docker engine
	@.venv/bin/python -m pytest
lint:
	$(DEV)
	@.venv/bin/ruff format --check --quiet . || { echo "formatting differs: make format"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
format: ## put the Python files into the house format
	$(DEV)
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix --quiet .
gateway-test: ## Go tests of the gateway's handlers and of the image mirror
	$(DEV)
	@.venv/bin/python -m ops gateway-test
contract: ## prove what clients are promised; URL=… [CA=… WRONG_PASSWORDS=1], its KEY exported: on a deployed platform [SLOW=1]
	$(UNSEEN)
	$(DEV)
	@.venv/bin/python -m ops contract
attack: ## at least 1,000 hostile requests, judged by what was seen behind the gateway [SEED=… N=…] [ONLY=number]
	$(DEV)
	@.venv/bin/python -m tests.attack
lock: ## look up the official images' digests, write locks/official.json
	$(OPS) lock
locks-python: ## resolve requirements/*.in again, with hashes
	$(DEV)
	@cd requirements && for name in runtime dev clients; do ../.venv/bin/uv pip compile --quiet --generate-hashes \
		--no-emit-index-url --no-header --python-version 3.11 --universal $$name.in -o $$name.lock || exit 1; done
	@# These have no solution for every Python at once.
	@cd requirements && for name in litellm guidellm aiperf; do ../.venv/bin/uv pip compile --quiet --generate-hashes \
		--no-emit-index-url --no-header --python-version 3.11 $$name.in -o $$name.lock || exit 1; done
bench-deploy: ## time the deployment, one JSON line last [COLD=1]
	$(OPS) bench-deploy
bench-gateway: ## what the gateway costs in front of an engine, one JSON line last [QUICK=1]
	$(DEV)
	@.venv/bin/python -m bench.gateway
bench-client: ## our streaming client, guidellm and aiperf on an engine that knows the truth, JSON last [QUICK=1]
	$(DEV)
	@.venv/bin/python -m bench.streams
bench-search: ## five real searches on an engine with a known knee, each to come within 5% (40 minutes), JSON last
	$(DEV)
	@.venv/bin/python -m bench.search
bench-planner: ## how wrong the planner's speeds are on published measurements, one JSON line last
	$(DEV)
	@.venv/bin/python -m bench.planner
