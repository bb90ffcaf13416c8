# Bilrost.  `make help` is the index; the plan of the house is src/FLOORS.
# The version has one home: the newest entry of debian/changelog.
VERSION := $(shell sed -n '1s/^[^(]*(\([^)]*\)).*/\1/p' debian/changelog)
ABI     := $(shell sed -n 's/^.define BILROST_PLUGIN_ABI //p' include/bilrost/plugin.h)
CC      ?= cc
CXX     ?= c++
SAN     ?=
comma   := ,
B       := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
OPT     ?= -O2
WARN    := -Wall -Wextra -Werror -Wshadow -Wconversion -Wmissing-prototypes -Wvla -Wswitch-enum \
           -Wstrict-prototypes -Wpointer-arith
CXXWARN := -Wall -Wextra -Werror -Wshadow
SANFLAG := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -DBILROST_SANITIZED)
HARDEN  := $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) -fstack-protector-strong -fPIE
COMMON   = $(OPT) -g -pthread -D_GNU_SOURCE -include src/base/banned.h -Iinclude $(HARDEN) $(SANFLAG) -MMD -MP
override CFLAGS   += -std=c11 $(COMMON) $(WARN)
override CXXFLAGS += -std=c++17 $(COMMON) $(CXXWARN)
override LDFLAGS  += -pthread -pie -Wl,-z,relro,-z,now $(SANFLAG)

# V=1 shows each command.
Q := $(if $(V),,@)
# What tells its version, and is compiled anew when that changes.
TELLS := $(B)/main/main.o $(B)/ctl/main.o $(B)/bench/conf.o
$(TELLS): debian/changelog
$(TELLS): override CFLAGS += -DBILROST_VERSION='"$(VERSION)"'

CORES := $(shell nproc)
ROOMS := $(shell awk '/^[0-9]/{print $$2}' src/FLOORS)
uses   = $(shell awk '/^[0-9]/&&$$2=="$(1)"{for(i=4;i<=NF;i++)print $$i}' src/FLOORS)
HAVE  := $(foreach r,$(ROOMS),$(if $(wildcard src/$(r)/*.c src/$(r)/*.cc),$(r)))
LIBS   = $(foreach r,$(HAVE),$(B)/lib$(r).a)
# What each guest brings to the link; its one host room is in src/FLOORS.
SYSLIBS_base    :=
SYSLIBS_codec   := -ljansson
SYSLIBS_net     := -levent_core -levent_extra -levent_openssl -lssl -lcrypto -lwslay -lsodium -lresolv
SYSLIBS_engine  := -lleveldb -lstdc++
SYSLIBS_node    := -lconfig
SYSLIBS_main    := -lsystemd
SYSLIBS := $(foreach r,$(HAVE),$(SYSLIBS_$(r))) -lm

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

# The door farm: the only include path a room is compiled with.  Its own folder is there whole; of the rooms it may use,
# the doors only (no *_priv.h); of any other room nothing, so a wrong #include is "No such file or directory".
define room
build/doors/$(1)/.made: src/FLOORS src $$(wildcard src/*)
	@rm -rf build/doors/$(1) && mkdir -p build/doors/$(1) && ln -s $$(CURDIR)/src/$(1) build/doors/$(1)/$(1)
	@for u in $$(call uses,$(1)); do mkdir build/doors/$(1)/$$$$u; for h in src/$$$$u/*.h src/$$$$u/*.def; do \
	  case $$$$h in *_priv.h|*'*'*) ;; *) ln -s $$(CURDIR)/$$$$h build/doors/$(1)/$$$$u/;; esac; done; done; touch $$@
$(B)/lib$(1).a: $$(patsubst src/%.c,$(B)/%.o,$$(wildcard src/$(1)/*.c)) $$(patsubst src/%.cc,$(B)/%.oo,$$(wildcard src/$(1)/*.cc))
	@mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
$(B)/$(1)/%.o: src/$(1)/%.c | build/doors/$(1)/.made
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(CFLAGS) -Ibuild/doors/$(1) -c $$< -o $$@
$(B)/$(1)/%.oo: src/$(1)/%.cc | build/doors/$(1)/.made
	$$(Q)mkdir -p $$(@D) && $$(CXX) $$(CXXFLAGS) -Ibuild/doors/$(1) -c $$< -o $$@
endef
$(foreach r,$(ROOMS),$(eval $(call room,$(r))))

# Programs: bilrostd = main, bilrostctl = ctl, bilrost-bench = bench; each exists once its room has a main.c.
PROGS := $(if $(wildcard src/main/main.c),$(B)/bilrostd) $(if $(wildcard src/ctl/main.c),$(B)/bilrostctl) \
         $(if $(wildcard src/bench/main.c),$(B)/bilrost-bench)
# The libraries a program may use, its own room first, downwards.
closure = $(1) $(foreach u,$(call uses,$(1)),$(call closure,$(u)))
reach   = $(filter $(call closure,$(1)),$(HAVE))
link_room = -Wl,--start-group $(foreach r,$(call reach,$(1)),$(B)/lib$(r).a) -Wl,--end-group \
            $(foreach r,$(call reach,$(1)),$(SYSLIBS_$(r))) -lm
JEMALLOC := $(if $(SAN),,-ljemalloc)
$(B)/bilrostd: $(LIBS)
	$(CXX) $(LDFLAGS) -o $@ $(call link_room,main) $(JEMALLOC)
$(B)/bilrostctl: $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(call link_room,ctl)
$(B)/bilrost-bench: $(LIBS)
	$(CC) $(LDFLAGS) -o $@ $(call link_room,bench)

all: $(LIBS) $(PROGS) ## build the libraries of all rooms and the programs into build/

# Tests.  tests/unit/<room>/test_*.c make one program per room (silent: the broker above stores that do not answer);
# tests/golden/<room>.c plays tests/golden/<room>/*.txt;
# tests/sim/<name>.c is a simulator linked with tests/sim/lib/*.c instead of the hands it replaces;
# tests/fuzz/fuzz_*.c is a fuzzer, or with the replay main a test over its corpus.
TCFLAGS = $(filter-out -Wmissing-prototypes,$(CFLAGS)) -Isrc -Itests
UNITS  := $(patsubst tests/unit/%,$(B)/unit/%,$(patsubst %/,%,$(sort $(dir $(wildcard tests/unit/*/test_*.c)))))
UNITS  := $(UNITS:$(B)/unit/%=$(B)/unit/%.test)
GOLDEN := $(patsubst tests/golden/%.c,$(B)/golden/%.test,$(wildcard tests/golden/*.c))
SIMS   := $(patsubst tests/sim/%.c,$(B)/sim/%,$(wildcard tests/sim/*.c))
FUZZ   := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
ALLLIBS = -Wl,--start-group $(LIBS) -Wl,--end-group $(SYSLIBS)
$(B)/t/%.o: tests/%.c
	@mkdir -p $(@D) && $(CC) $(TCFLAGS) -c $< -o $@
define unit
$(B)/unit/$(1).test: $$(patsubst tests/%.c,$(B)/t/%.o,$$(wildcard tests/unit/$(1)/*.c) tests/unit/main.c tests/unit/cert.c) $(LIBS)
	@mkdir -p $$(@D) && $$(CXX) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(ALLLIBS) -lcheck -lsubunit -lrt
endef
$(foreach u,$(notdir $(UNITS:.test=)),$(eval $(call unit,$(u))))
$(B)/golden/%.test: $(B)/t/golden/%.o $(patsubst tests/%.c,$(B)/t/%.o,$(wildcard tests/golden/lib/*.c)) $(LIBS)
	@mkdir -p $(@D) && $(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ALLLIBS)
# stories of gossip are played on the network of its simulator
$(B)/golden/gossip.test: $(B)/t/sim/lib/gossip_net.o $(B)/t/sim/lib/world.o
$(B)/sim/%: $(B)/t/sim/%.o $(patsubst tests/%.c,$(B)/t/%.o,$(wildcard tests/sim/lib/*.c)) $(LIBS)
	@mkdir -p $(@D) && $(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ALLLIBS)
$(B)/fuzz/%.replay: $(B)/t/fuzz/fuzz_%.o $(B)/t/fuzz/replay.o $(LIBS)
	@mkdir -p $(@D) && $(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ALLLIBS)
$(B)/bench/%: $(B)/t/bench/%.o $(LIBS)
	@mkdir -p $(@D) && $(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ALLLIBS) $(JEMALLOC)
build/libfuzzer/%: tests/fuzz/fuzz_%.c FORCE
	@mkdir -p $(@D) && $(MAKE) -s SAN=fuzzer-no-link,address,undefined CC=clang CXX=clang++ libs
	clang $(filter-out -Wmissing-prototypes,$(CFLAGS)) -Isrc -Itests -fsanitize=fuzzer,address,undefined -c $< -o $@.o
	clang++ -fsanitize=fuzzer,address,undefined $@.o -o $@ \
	  -Wl,--start-group build/san-fuzzer-no-link-address-undefined/lib*.a -Wl,--end-group $(SYSLIBS) -pthread
FORCE:


.PHONY: bench-log bench-kv bench-idle bench-idle-cluster chaos scale torture lab install install-daemon install-tools install-dev install-doc dist deb rpm bench-peers all tests unit-programs tsan libs help clean check check-house check-headers unit golden sim sim-long canaries fuzz fuzz-million fuzz-replay fmt tidy bench install FORCE
libs: $(LIBS)
tests: $(UNITS) $(GOLDEN) $(SIMS) $(FUZZ:%=$(B)/fuzz/%.replay) ## build every test program
unit: $(UNITS) ## run the unit tests
	@scripts/run-tests $^ scripts/check-conformance
golden: $(GOLDEN) ## play the golden stories (REWRITE=1 writes them anew: read the diff)
	@scripts/run-tests $^
fuzz-replay: $(FUZZ:%=$(B)/fuzz/%.replay) ## run every decoder over its corpus and mutations of it
	@scripts/run-tests $^
fuzz: $(FUZZ:%=fuzz-%) ## fuzz each decoder for FUZZ_SECONDS (60)
fuzz-%: build/libfuzzer/%
	@mkdir -p build/corpus/$* tests/fuzz/corpus/$*
	$< -max_total_time=$${FUZZ_SECONDS:-60} -artifact_prefix=build/corpus/$*. -timeout=10 -rss_limit_mb=2048 build/corpus/$* tests/fuzz/corpus/$*
fuzz-million: $(FUZZ:%=million-%) ## each decoder gets a million random and mutated inputs
million-%: build/libfuzzer/%
	@mkdir -p build/corpus/$* tests/fuzz/corpus/$*
	$< -runs=1000000 -artifact_prefix=build/corpus/$*. -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 build/corpus/$* tests/fuzz/corpus/$*
sim: $(SIMS) ## some seeds of each simulator
	@scripts/run-sim short $^
sim-long: $(SIMS) ## many seeds of each simulator (SEEDS=N, HOURS=N)
	@scripts/run-sim long $^
canaries: all ## plant each fault of tests/sim/canaries into a copy of the sources: the simulators must find it
	@scripts/check-canaries
unit-programs: $(UNITS) $(GOLDEN) $(FUZZ:%=$(B)/fuzz/%.replay)
# Rooms with threads, whose unit tests also run under ThreadSanitizer (make SAN=thread tsan); their deadlines: tests/lib/slow.h.
THREADED := $(filter net engine cluster kv dist stores broker silent,$(notdir $(UNITS:.test=)))
tsan: $(THREADED:%=$(B)/unit/%.test) ## the unit tests of the rooms with threads
	@$(if $^,scripts/run-tests $^)
check: tests all ## unit, golden, fuzz corpora and simulators; add SAN=address,undefined or SAN=thread
	@scripts/run-tests $(UNITS) $(GOLDEN) $(FUZZ:%=$(B)/fuzz/%.replay) "scripts/run-sim short $(SIMS)" \
	  scripts/check-conformance
check-house: ## every line in its room: floors, doors, names, purity, sizes
	@$(MAKE) -s --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(CORES)) libs check-headers
	@scripts/check-house
check-headers: $(ROOMS:%=build/doors/%/.made) ## every header compiles alone
	@printf '%s\n' $(patsubst src/%,%,$(wildcard src/*/*.h)) | TRY='$(CC) $(filter-out -MMD -MP -Werror,$(CFLAGS)) -Werror' \
	  xargs -P$(CORES) -n1 sh -c 'echo "#include \"$$0\"" | $$TRY -Ibuild/doors/$${0%%/*} -fsyntax-only -xc - || exit 255'
bench-log: $(B)/bench/log ## the Raft log: proposals per fdatasync, latency, opening a log of 2 GiB
	$<
bench-kv: $(B)/bench/kv ## whole kv nodes: proposals per fdatasync, latency, ranges, idle, failover, split, snapshot, recovery
	$<
bench-idle: all ## memory and processor time of 20000 idle connections
	@scripts/bench-idle
bench-idle-cluster: all ## processor time, memory and gossip of three nodes that nobody uses (NODES=50: of fifty)
	@scripts/bench-idle-cluster 60 $(or $(NODES),3)
bench-tables: $(B)/bench/dist $(B)/bench/retain $(B)/bench/inbox ## figures of the three tables: memory, time
	@for b in $^; do $$b || exit 1; done
fmt: ## format every source
	@clang-format -i $(wildcard src/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch])
tidy: ## clang-tidy: functions over 70 lines, 6 parameters, nesting 4
	@scripts/check-tidy
PREFIX  ?= /usr
LIBEXECDIR ?= $(PREFIX)/libexec
SBINDIR ?= $(PREFIX)/sbin
UNITDIR ?= /lib/systemd/system
DOCDIR  ?= $(PREFIX)/share/doc/bilrost
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
DEVDOCDIR ?= $(PREFIX)/share/doc/bilrost-dev
ZSHDIR  ?= $(PREFIX)/share/zsh/vendor-completions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
D        = $(DESTDIR)
UNIT    := systemd/bilrostd.service.in
# Documents for the people who run it; the others are for those who change it.
DOCS    := $(filter-out docs/HOUSE.md docs/STATUS.md docs/FLOW.md,$(wildcard docs/*.md docs/*.txt))
TOOLMAN := bilrost-bench.1 bilrost-virtualcluster.1
PUT     := install -D -m 644
# $(call unit_text,FOR,I,ARGS,WANTED): a unit out of systemd/bilrostd.service.in
unit_text = sed -e '1,/^\[Unit\]/{/^\#/d}' -e 's|@FOR@|$(1)|;s|@I@|$(2)|g;s|@ARGS@|$(3)|;s|@WANTED@|$(4)|' $(UNIT)
build/systemd/bilrostd.service: $(UNIT)
	@mkdir -p $(@D) && $(call unit_text,,,,multi-user.target) >$@
build/systemd/bilrostd@.service: $(UNIT)
	@mkdir -p $(@D) && $(call unit_text, %i,-%i, -c /etc/bilrost-%i/bilrostd.conf -D data_dir=%S/bilrost-%i \
	  -D apiServerConfig.unixSocket=%t/bilrost-%i/api.sock,bilrost.target) >$@
UNITS_BUILT := build/systemd/bilrostd.service build/systemd/bilrostd@.service
install: install-daemon install-tools install-dev install-doc ## install into DESTDIR: daemon, tools, plugin header, documents
install-daemon: all $(UNITS_BUILT)
	install -D -m 755 $(B)/bilrostd $(D)$(SBINDIR)/bilrostd
	install -D -m 755 $(B)/bilrostctl $(D)$(PREFIX)/bin/bilrostctl
	$(B)/bilrostctl completion bash >$(B)/completion.bash && $(PUT) $(B)/completion.bash $(D)$(BASHDIR)/bilrostctl
	$(B)/bilrostctl completion zsh >$(B)/completion.zsh && $(PUT) $(B)/completion.zsh $(D)$(ZSHDIR)/_bilrostctl
	$(B)/bilrostctl completion fish >$(B)/completion.fish && $(PUT) $(B)/completion.fish $(D)$(FISHDIR)/bilrostctl.fish
	$(if $(wildcard scripts/bilrost-setup),install -D -m 755 scripts/bilrost-setup $(D)$(SBINDIR)/bilrost-setup)
	install -D -m 755 systemd/package-hook $(D)$(LIBEXECDIR)/bilrost/package-hook
	$(PUT) systemd/apparmor $(D)$(PREFIX)/share/apparmor/extra-profiles/usr.sbin.bilrostd
	install -D -m 755 systemd/needrestart $(D)/etc/needrestart/restart.d/bilrostd.service
	install -D -m 640 etc/bilrostd.conf $(D)/etc/bilrost/bilrostd.conf
	$(PUT) -t $(D)$(UNITDIR) $(UNITS_BUILT) systemd/bilrost.target systemd/bilrostd.socket systemd/bilrost-sync.service systemd/bilrost-sync.timer
	$(PUT) systemd/bilrost.sysusers $(D)$(PREFIX)/lib/sysusers.d/bilrost.conf
	$(PUT) systemd/bilrost.tmpfiles $(D)$(PREFIX)/lib/tmpfiles.d/bilrost.conf
	$(foreach m,$(filter-out $(TOOLMAN:%=docs/man/%),$(wildcard docs/man/*.[1-9])),$(call put_man,$(m)))
install-tools: all
	install -D -m 755 $(B)/bilrost-bench $(D)$(PREFIX)/bin/bilrost-bench
	install -D -m 755 scripts/virtualcluster $(D)$(PREFIX)/bin/bilrost-virtualcluster
	$(foreach m,$(filter $(TOOLMAN:%=docs/man/%),$(wildcard docs/man/*.[1-9])),$(call put_man,$(m)))
define put_man
$(PUT) $(1) $(D)$(PREFIX)/share/man/man$(patsubst .%,%,$(suffix $(1)))/$(notdir $(1))

endef
install-dev:
	$(PUT) include/bilrost/plugin.h $(D)$(PREFIX)/include/bilrost/plugin.h
	$(PUT) -t $(D)$(DEVDOCDIR)/examples etc/examples/plugin/door.c
	mkdir -p build $(D)$(PREFIX)/share/pkgconfig
	sed 's|@PREFIX@|$(PREFIX)|;s|@VERSION@|$(VERSION)|;s|@ABI@|$(ABI)|' include/bilrost.pc.in >build/bilrost.pc
	$(PUT) build/bilrost.pc $(D)$(PREFIX)/share/pkgconfig/bilrost.pc
install-doc:
	$(PUT) -t $(D)$(DOCDIR) README.md $(DOCS)
	$(if $(wildcard etc/examples),mkdir -p $(D)$(DOCDIR)/examples && cp -r etc/examples/. $(D)$(DOCDIR)/examples && rm -r $(D)$(DOCDIR)/examples/plugin)
dist: ## build/bilrost-VERSION.tar.gz from what is committed
	@mkdir -p build
	git archive --format=tar.gz --prefix=bilrost-$(VERSION)/ -o build/bilrost-$(VERSION).tar.gz HEAD
deb: ## Debian packages of what is committed, into build/deb
	scripts/build-deb
rpm: ## RPM packages of what is committed, into build/rpm
	scripts/build-rpm
lab: all ## the packages on hosts with systemd: install, cluster, faults, upgrades (root; LAB_ARGS="--short")
	@scripts/install-deps lab
	@tests/lab/run $(LAB_ARGS)
chaos: all ## real nodes are killed, restarted, paused, cut off: nobody who lives is called dead (MINUTES=60)
	@tests/e2e/chaos --minutes $${MINUTES:-60}
scale: all ## three nodes become five and three again under load
	@tests/e2e/run -v test_out_to_five
torture: all ## three nodes, load, kills: nothing acknowledged may be lost (KILLS=10)
	@scripts/torture $${KILLS:-10}
bench-peers: all ## bilrostd beside the distribution's mosquitto, in one run
	@scripts/bench-peers
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(firstword $(MAKEFILE_LIST))
clean: ## remove build/
	rm -rf build

-include Makefile.*.mk
-include $(wildcard $(B)/*/*.d $(B)/t/*.d $(B)/t/*/*.d $(B)/t/*/*/*.d)
