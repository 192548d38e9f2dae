# SPDX-License-Identifier: Apache-2.0
# `make help` lists what there is. Everything made or installed goes into build/, and `make clean` removes it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Compiled once, not by each of the many programs that the tests start.
unexport PYTHONDONTWRITEBYTECODE

VENV := build/venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SIMULATOR := build/vcenter-sim
GLANCE_STAMP := build/glance-venv/.installed
CLOUD_STAMPS := build/cloud-venv/.installed build/horizon-venv/.installed
SEAM_RELEASES := cinder==27. cinder==28. cinder==29. oslo.vmware==4.7. oslo.vmware==4.10.
WSDL := simulator/vimservice/vimService.wsdl.gz
REQUIREMENTS := requirements.txt test-requirements.txt docs/requirements.txt sandbox/requirements.txt
SIMULATOR_SOURCES := $(shell find simulator -type f \( -name '*.go' -o -name 'go.*' \) 2>/dev/null)

.PHONY: help venv simulator simulator-races test lint demo sandbox sandbox-stop glance cloud test-cloud tempest image-cache-run bench bench-large bench-start churn-run drs-run crash-matrix disaster-drill backup-run copy-matrix cluster-run image-fuzz image-matrix migration-run policies-run qos-run upgrade-run tox docs docs-run genconfig seams architecture explain-run cli-page cli-scale man-page session options-page structure clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## the virtualenv build/venv with Cinder, its clients, the test tools and this project

$(STAMP): $(REQUIREMENTS) constraints.txt setup.cfg setup.py pyproject.toml tools/make_venv.sh tools/uv_install.py
	@echo "== virtualenv"
	@mkdir -p build; tools/warm_go.sh $(VENV) >build/warm_go.log 2>&1 &
	@tools/make_venv.sh $(VENV) $(REQUIREMENTS)
	@touch $@

simulator: $(SIMULATOR) ## the simulated vCenter, build/vcenter-sim

$(WSDL): simulator/vimservice/generate.py | $(STAMP)
	@echo "== description of the vSphere API, as a vCenter serves it"
	@$(BIN)/python $< $@

# A simulator that is running keeps its program: the new one takes its name. What tools/warm_go.sh has begun is not
# compiled a second time beside it.
$(SIMULATOR): $(SIMULATOR_SOURCES) $(WSDL) tools/find_go.sh | $(STAMP)
	@echo "== simulated vCenter"
	@go=$$(tools/find_go.sh $(VENV)) && \
		echo "  compiling with $$($$go version | cut -d ' ' -f 3)" \
			"(the first time it fetches its modules: a minute or two) ..." && \
		(flock -w 600 9 || true; cd simulator && GOGC=300 $$go build -buildvcs=false -o ../$@.new . 9>&-) \
			9>build/warm_go.lock && mv $@.new $@ && \
		echo "  ready: $@"

test: $(STAMP) $(SIMULATOR) ## every check and every test
	@$(BIN)/python tools/run_tests.py --go "$$(tools/find_go.sh $(VENV))"

lint: $(STAMP) ## the checks without the tests
	@$(BIN)/python tools/run_tests.py --checks-only

demo: $(STAMP) $(SIMULATOR) $(if $(CLOUD),$(CLOUD_STAMPS)) ## a real Cinder and a simulated vCenter: volumes made, changed, checked and deleted; CLOUD=1 by a member, with Keystone
	@$(BIN)/python -m sandbox demo $(if $(CLOUD),--cloud) $(ARGS)

sandbox: $(STAMP) $(SIMULATOR) $(if $(GLANCE),$(GLANCE_STAMP)) $(if $(CLOUD),$(CLOUD_STAMPS)) ## the same Cinder and vCenter, left running for you; CLUSTER=3 for three cinder-volume, GLANCE=1 for images, CLOUD=1 for Keystone, Glance, Nova and Horizon
	@$(BIN)/python -m sandbox start $(if $(CLOUD),--cloud) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(GLANCE),--glance) $(ARGS)

glance: $(GLANCE_STAMP) ## a Glance for `make sandbox GLANCE=1`, in build/glance-venv

cloud: $(CLOUD_STAMPS) ## what `make sandbox CLOUD=1` needs, in build/cloud-venv and build/horizon-venv

build/cloud-venv/.installed: sandbox/glance-requirements.txt

# An environment above the sandbox's, with what is in its requirements.
build/%-venv/.installed: sandbox/%-requirements.txt constraints.txt | $(STAMP)
	@echo "== $* in build/$*-venv"
	@rm -rf build/$*-venv && $(BIN)/python -m venv build/$*-venv
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		>"$$(build/$*-venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/sandbox.pth"
	@build/$*-venv/bin/python -m pip install --quiet -c constraints.txt -r $<
	@touch $@

test-cloud: $(STAMP) $(SIMULATOR) $(CLOUD_STAMPS) build/browser-venv/.installed ## what a member does, also in Horizon, in a whole cloud that is started for it; ARGS=--running for the one of `make sandbox CLOUD=1`
	@$(BIN)/python -W ignore -m sandbox.tests.full_cloud_run $(ARGS)

tempest: $(STAMP) build/tempest-venv/.installed ## Tempest's and cinder-tempest-plugin's volume tests on the cloud of `make sandbox CLOUD=1`; ARGS='--regex test_volumes_clone'
	@$(BIN)/python -W ignore -m sandbox.tests.tempest_run $(ARGS)

image-cache-run: $(STAMP) $(SIMULATOR) $(GLANCE_STAMP) ## volumes from images with a real Glance, and the image-volume cache
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.image_cache_run

image-fuzz: $(STAMP) $(SIMULATOR) ## 500 hostile images through the driver: each a right volume or one sentence; ARGS='--seed 2'
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.image_fuzz $(ARGS)

sandbox-stop: ## stop what `make sandbox` started
	@$(BIN)/python -m sandbox stop $(ARGS)

bench: $(STAMP) $(SIMULATOR) ## figures beside upstream's driver into docs/benchmarks; QUICK=1 for counts only, in two minutes
	@$(if $(QUICK),,$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt &&) $(BIN)/python -W ignore -m benchmarks $(if $(QUICK),--quick)

bench-large: $(STAMP) $(SIMULATOR) ## the same at the largest size of a vCenter, our driver alone; 15 minutes and 4 GB of memory
	@$(BIN)/python -W ignore -m benchmarks --large

bench-start: $(STAMP) $(SIMULATOR) ## a start with 10,000 volumes, 3,000 of them attached, into docs/benchmarks
	@$(BIN)/python -W ignore -m benchmarks --start $(ARGS)

churn-run: $(STAMP) $(SIMULATOR) ## an hour of operations while others change the vCenter, into docs/churn-run.md; ARGS='--minutes 5 --size 100x32x1000'
	@$(BIN)/python -W ignore -m benchmarks.churn_run $(ARGS)

drs-run: $(STAMP) $(SIMULATOR) ## Storage DRS moves 300 attached disks at once; DRS_DISKS=30 for fewer
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.drs_run

simulator-races: $(STAMP) $(SIMULATOR) ## the simulated vCenter under Go's race detector and a mixed load; ARGS='--seconds 300'
	@go=$$(tools/find_go.sh $(VENV)) && (cd simulator && CGO_ENABLED=1 $$go build -race -buildvcs=false -o ../$(SIMULATOR)-race .)
	@VCENTER_SIM=$(SIMULATOR)-race $(BIN)/python -W ignore -m simulator.conformance.mixed_load $(ARGS)

crash-matrix: $(STAMP) $(SIMULATOR) ## every operation cut off at every call, into docs/crash-matrix.md
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.crash_matrix

disaster-drill: $(STAMP) $(SIMULATOR) ## damage of fifty kinds, named by the audit and mended, into docs/disaster-drill.md
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.disaster_drill $(ARGS)

image-matrix: $(STAMP) $(SIMULATOR) ## each format of images with each adapter, disk type and size to a volume and back, into docs/image-matrix.md
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.image_matrix

copy-matrix: $(STAMP) $(SIMULATOR) ## each way to copy a volume and what its copy keeps, into docs/copies.md
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.copy_matrix

backup-run: $(STAMP) $(SIMULATOR) ## backups and restores of every kind, broken off at every call, into docs/backups-run.md
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.backup_run

privileges: $(STAMP) $(SIMULATOR) ## what each operation needs the vCenter's user to be allowed, into docs/privileges.md
	@WRITE_PRIVILEGES=1 $(BIN)/python -W ignore -m unittest cinder_vmdk_ext.tests.functional.test_privileges.TableTestCase

cluster-run: $(STAMP) $(SIMULATOR) ## 300 operations on three cinder-volume that are killed in turn, into docs/cluster-run.md
	@$(BIN)/python -W ignore -m sandbox.tests.cluster_run $(ARGS)

migration-run: $(STAMP) $(SIMULATOR) ## volumes migrated between two vCenters by real services of Cinder, killed meanwhile, and broken off at every call
	@$(BIN)/python -W ignore -m unittest -v sandbox.tests.migration_run cinder_vmdk_ext.tests.functional.migration_cuts.CutsTestCase

policies-run: $(STAMP) $(SIMULATOR) ## 50 volumes of a type with a storage policy by Cinder's stock scheduler, made at once and lazily
	@$(BIN)/python -W ignore -m unittest -v sandbox.tests.policies_run

qos-run: $(STAMP) $(SIMULATOR) ## limits, shares and reservations by QoS specs, through Cinder's API with real services
	@$(BIN)/python -W ignore -m unittest -v sandbox.tests.qos_run

upgrade-run: $(STAMP) $(SIMULATOR) ## volumes of an earlier version under this one, under that one again, and both versions at once
	@$(BIN)/python -W ignore -m unittest -v cinder_vmdk_ext.tests.functional.upgrade_run

tox: $(STAMP) ## tox with the environments of ENV, for example ENV=cinder27,cinder28,cinder29
	@test -x build/tox-venv/bin/tox || { $(BIN)/python -m venv build/tox-venv && build/tox-venv/bin/pip install --quiet 'tox>=4.12'; }
	@build/tox-venv/bin/tox --workdir build/tox $(if $(ENV),-e $(ENV))

docs: $(STAMP) ## the documentation as HTML, build/docs/html/index.html
	@$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/docs/doctrees docs build/docs/html
	@echo "build/docs/html/index.html"

docs-run: $(STAMP) $(SIMULATOR) ## run the commands of the operator's pages, with a real Cinder and in folders in place of /opt
	@$(BIN)/python -W ignore -m unittest -v cinder_vmdk_ext.tests.functional.docs_run

genconfig: $(STAMP) ## write etc/cinder_vmdk_ext.conf.sample anew from the options
	@$(BIN)/oslo-config-generator --config-file etc/config-generator.conf

books: $(STAMP) $(SIMULATOR) ## random operations beside Nova, Storage DRS, backups and strangers; ARGS='--steps 20000 --seed 1'
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.books_run $(ARGS)

seams: $(STAMP) ## record anew what we override and call in each supported release of Cinder
	@mkdir -p build/wheels && cd build/wheels && for wanted in $(SEAM_RELEASES); do \
		name=$${wanted%%==*} && ls $${name/./_}-$${wanted##*==}*.whl >/dev/null 2>&1 || \
		../../$(BIN)/python -m pip download --quiet --no-deps "$$wanted*" || exit 1; done
	@$(BIN)/python -m cinder_vmdk_ext.tests.contract.seams --record build/wheels/*.whl

architecture: $(STAMP) ## draw docs/architecture.svg anew from the imports of the sources
	@$(BIN)/python -m tools.picture

explain-run: $(STAMP) ## compare `pool explain` with Cinder's scheduler and the placement 1,000 times
	@EXPLAIN_EXAMPLES=1000 $(BIN)/python -W ignore -m unittest cinder_vmdk_ext.tests.unit.scheduling.test_explain.AgreementTestCase

cli-scale: $(STAMP) $(SIMULATOR) ## calls and seconds of the listings and of `check`, with 500 datastores and 5,000 volumes
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.functional.cli_scale_run $(ARGS)

cli-page: $(STAMP) ## write docs/cli.md anew from the command's help
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.contract.cli_page

man-page: $(STAMP) ## write docs/cinder-vmdk-ext.8 anew from the command's help
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.contract.man_page

options-page: $(STAMP) ## write docs/options.md anew from the options
	@$(BIN)/python -W ignore -m cinder_vmdk_ext.tests.contract.options_page

session: $(STAMP) $(SIMULATOR) ## record a session of the command line in docs/session.md
	@$(BIN)/python -W ignore -m sandbox.session

structure: $(STAMP) $(SIMULATOR) ## count modules, imports and the calls of each operation into docs/structure.json and docs/architecture.md
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m tools.structure --walks --record now

clean: ## remove everything made or installed (stop the sandbox first)
	rm -rf build $(WSDL) .stestr .mypy_cache .hypothesis *.egg-info
