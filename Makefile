# SPDX-License-Identifier: GPL-2.0-only
#
# vfio-type1: what a person types. Kbuild does the building; the work of the
# other targets is in tests/ and tools/, and is described there.

KDIR ?= /lib/modules/$(shell uname -r)/build
KERNEL ?= 6.1
IOMMU ?= intel

# What 'make install' signs with, for hosts with Secure Boot: DKMS's key, if there.
# A kernel that doesn't know signatures gets none.
KEY ?= $(wildcard /var/lib/dkms/mok.key)
CERT ?= $(wildcard /var/lib/dkms/mok.pub)

release = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h)
installed = $(INSTALL_MOD_PATH)/lib/modules/$(release)/updates/vfio_iommu_type1.ko
hash = $(shell sed -n 's/^CONFIG_MODULE_SIG_HASH="\{0,1\}\([a-z0-9-]*\).*/\1/p' $(KDIR)/include/config/auto.conf)

.PHONY: modules
modules: | kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules
	@tools/check-abi vfio_iommu_type1.ko $(KDIR)

.PHONY: install
install: modules
	install -D -m 644 vfio_iommu_type1.ko $(installed)
	$(if $(and $(KEY),$(hash)),$(KDIR)/scripts/sign-file $(hash) $(KEY) $(CERT) $(installed))
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(release)

.PHONY: uninstall
uninstall: | kdir
	rm -f $(installed)
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(release)

.PHONY: clean
clean: | kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) UNTESTED_KERNEL=y clean

# vfio-type1-stat: a script, which needs no building.
PREFIX ?= /usr/local
.PHONY: install-tools
install-tools:
	install -D -m 755 tools/stat/vfio-type1-stat $(DESTDIR)$(PREFIX)/sbin/vfio-type1-stat
	install -D -m 644 tools/stat/vfio-type1-stat.8 $(DESTDIR)$(PREFIX)/share/man/man8/vfio-type1-stat.8
	install -D -m 644 tools/stat/vfio-type1-stat.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/vfio-type1-stat

.PHONY: uninstall-tools
uninstall-tools:
	rm -f $(DESTDIR)$(PREFIX)/sbin/vfio-type1-stat \
		$(DESTDIR)$(PREFIX)/share/man/man8/vfio-type1-stat.8 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/vfio-type1-stat

.PHONY: kdir
kdir:
	@test -e $(KDIR)/Makefile || { echo "No kernel headers at $(KDIR):" \
		"install linux-headers-$(shell uname -r), or say where they are with KDIR=" >&2; exit 1; }

.PHONY: dist deb
dist:
	@tools/dist
deb:
	@tools/setup
	@tools/deb

.PHONY: demo check check-long matrix newest clients kunit vmtest debug-kernel difftest static packages-test
.PHONY: model upstream stat docs doc-commands coverage mutants soak fuzz
.PHONY: bench bench-check bench-scaling bench-curves bench-latency profile
demo:
	@KERNEL=$(KERNEL) IOMMU=$(IOMMU) tests/vm/demo
check:
	@tests/check
check-long:
	@tests/check long
matrix:
	@KERNELS="$(KERNELS)" tests/matrix
newest:
	@tests/newest
clients:
	@CLIENTS="$(CLIENTS)" KERNEL=$(KERNEL) IOMMU=$(IOMMU) tests/clients/run
kunit:
	@tools/setup
	@tests/kunit/run --kernel $(KERNEL)
vmtest:
	@tools/setup
	@$(if $(CPUS),CPUS=$(CPUS)) tests/vm/check --kernel $(KERNEL)$(DEBUG:%=-%) --iommu $(IOMMU) $(TESTS)
debug-kernel:
	@tools/setup
	@tools/debug/build $(KERNEL) $(or $(DEBUG),kasan)
difftest:
	@tools/setup
	@KERNEL=$(KERNEL) IOMMU=$(IOMMU) SEED=$(SEED) OPS=$(OPS) tests/vm/difftest
static:
	@tools/setup
	@tests/static
model:
	@tools/setup
	@tests/model/run
upstream:
	@tools/setup
	@IOMMU=$(IOMMU) tests/upstream
packages-test:
	@tools/setup
	@tests/packages/run $(DEBIAN)
stat:
	@tools/setup
	@tests/stat
	@KERNEL=$(KERNEL) IOMMU=$(IOMMU) tests/vm/stat
docs:
	@tools/setup
	@tools/docs
doc-commands:
	@tools/setup
	@tests/doc-commands
coverage:
	@tools/setup
	@tests/coverage
mutants:
	@tools/setup
	@MUTANTS="$(MUTANTS)" tests/mutants/run
soak fuzz:
	@tools/setup
	@KERNEL=$(KERNEL) IOMMU=$(IOMMU) MINUTES=$(MINUTES) SEED=$(SEED) tests/vm/$@

bench bench-check bench-scaling bench-curves bench-latency profile:
	@tools/setup
	@KERNEL=$(KERNEL) IOMMU=$(IOMMU) tests/bench/$(patsubst bench,run,$(@:bench-%=%))

.PHONY: clean-cache
clean-cache:
	@tools/fetch clean

.PHONY: help
help:
	@echo 'On a host that is to use the module:'
	@echo '  make [KDIR=DIR]    build vfio_iommu_type1.ko for the running kernel, or for DIR;'
	@echo '                     UNTESTED_KERNEL=y for one that it is not for'
	@echo '  make install       put it into updates/, where modprobe prefers it; signed with'
	@echo '                     KEY= and CERT=, or with DKMS'"'"'s key if there is one'
	@echo '  make uninstall     remove it: the in-tree module is back'
	@echo '  make install-tools vfio-type1-stat, its manual and its completion, below PREFIX,'
	@echo '                     /usr/local; make uninstall-tools removes them'
	@echo '  make clean         remove what was built'
	@echo '  make dist          the release tarball'
	@echo '  make deb           the Debian packages'
	@echo
	@echo 'On any Debian 12 or 13 machine; KERNEL=6.1|6.12|... IOMMU=intel|amd'
	@echo '  make demo          boot a VM in which a device does DMA through the module'
	@echo '  make check         all tests, on all kernels and IOMMUs'
	@echo '  make matrix        the VM tests on all supported kernels, and a table;'
	@echo '                     KERNELS="6.1 7.2 ..." chooses'
	@echo '  make clients       DPDK and QEMU in a VM, on the in-tree module and on ours, and a'
	@echo '                     table; CLIENTS="dpdk qemu nvme" chooses'
	@echo '  make kunit         the KUnit suites, under User-Mode Linux (6.1, 6.12)'
	@echo '  make vmtest        the tests in a VM; TESTS="test_map ..." chooses. Also for'
	@echo '                     KERNEL=6.12-arm64 IOMMU=smmuv3, some of them. DEBUG=kasan or'
	@echo '                     DEBUG=kcsan: on a debugging kernel; CPUS= of the VM, 2'
	@echo '  make debug-kernel  build that of KERNEL and DEBUG, once per machine, 20 minutes'
	@echo '  make difftest      the same random requests to the in-tree module and to ours;'
	@echo '                     SEED= and OPS= choose them'
	@echo '  make static        warnings, sparse, checkpatch, kernel-doc, shellcheck, rooms'
	@echo '  make model         models of what threads do at the same time, in every order'
	@echo '  make upstream      the tests of VFIO'"'"'s maintainers, on the in-tree module and on ours'
	@echo '  make stat          tests of vfio-type1-stat, here and in a VM'
	@echo '  make docs          HTML pages of the documents and of the comments in the sources'
	@echo '  make doc-commands  run the commands that the documents show'
	@echo '  make check-long    make check, clients, and all that follows here down to fuzz'
	@echo '  make packages-test install, upgrade and remove the package in a VM of its own,'
	@echo '                     with DEBIAN=bookworm or trixie'
	@echo '  make coverage      which lines and branches the KUnit suites reach'
	@echo '  make mutants       break the module in many ways: each must turn a test red'
	@echo '  make soak          devices do DMA while mappings come and go; MINUTES='
	@echo '  make fuzz          make difftest with one seed after the other; MINUTES='
	@echo '  make bench         instructions per page: in-tree module, ours, and the floor'
	@echo '  make bench-check   fail if a case fell behind the committed baseline'
	@echo '  make bench-scaling two threads against one'
	@echo '  make bench-curves  cost over the size of a mapping, and over their number'
	@echo '  make bench-latency how long others wait for the CPU, and for a killed MAP'
	@echo '  make profile       instructions per function; CASE= and TARGET= choose'
	@echo '  make clean-cache   remove everything that was downloaded or built elsewhere'
