# Sluice build. `make help` lists the targets; user CFLAGS and LDFLAGS are appended to the project's own.
BUILD ?= build
CC ?= cc
PREFIX ?= /usr/local
WITH_EDIT ?= 1
WITH_SERVER ?= 1
WITH_KVSTORE ?= 1

version := 0.1.0
commit := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
machine := $(shell $(CC) -dumpmachine | cut -d- -f1)

base_cflags := -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wformat=2 -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wno-unused-parameter -ffp-contract=off -fno-math-errno -Isrc -D_GNU_SOURCE \
	-MMD -MP
# The server is optional: WITH_SERVER=0 leaves it out, and libevent, OpenSSL, zlib and zstd with it.
server_libs := $(if $(filter 0,$(WITH_SERVER)),,-levent -levent_openssl -lssl -lcrypto -lz -lzstd)
server_skip := $(if $(filter 0,$(WITH_SERVER)),src/server/%)
# So is the store of conversations on disk: WITH_KVSTORE=0.
kvstore_src := $(filter-out %/none.c,$(wildcard src/kvstore/*.c))
kvstore_skip := $(if $(filter 0,$(WITH_KVSTORE)),$(kvstore_src),src/kvstore/none.c)
kvstore_tests := $(if $(filter 0,$(WITH_KVSTORE)),%_kvstore %_kvstore_faults %_kvstore_kill %_kv_record)
kvstore_benches := $(if $(filter 0,$(WITH_KVSTORE)),%/prefix %/restore %/traffic)
libs := $(server_libs) -ljson-c -lutf8proc -lxxhash $(if $(filter 0,$(WITH_KVSTORE)),,-lzstd) -lpthread -lm

# One object per instruction set, chosen at run time; a machine builds the sets of its family. -O3 for the leaves:
# fixed-count loops over lanes and tiles must be unrolled.
isa_dirs := src/ops/avx2 src/ops/avx512 src/ops/amx src/ops/neon
isa_x86_64 := src/ops/avx2 src/ops/avx512 src/ops/amx
isa_aarch64 := src/ops/neon
isa_skip := $(addsuffix /%,$(filter-out $(isa_$(machine)),$(isa_dirs)))
avx512_flags := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mavx512vbmi2 -mgfni
$(BUILD)/obj/ops/cpu/leaf_c.o $(BUILD)/obj/ops/cpu/unpack_c.o: isa_cflags := -O3
$(BUILD)/obj/ops/avx2/%.o: isa_cflags := -O3 -mavx2 -mfma -mf16c
$(BUILD)/obj/ops/avx512/%.o: isa_cflags := -O3 $(avx512_flags)
amx_flags := -mavx512bf16 $(if $(findstring AMX_EMULATED,$(CFLAGS)),,-mavx512fp16 -mamx-tile -mamx-int8 -mamx-bf16)
$(BUILD)/obj/ops/amx/%.o: isa_cflags := -O3 $(avx512_flags) $(amx_flags)
$(BUILD)/obj/ops/neon/%.o: isa_cflags := -O3

# Line editing is optional: WITH_EDIT=0 builds the plain reader instead.
line_skip := $(if $(filter 0,$(WITH_EDIT)),%/line_edit.c,%/line_plain.c)
cmd_libs := $(if $(filter 0,$(WITH_EDIT)),,-ledit)

lib_src := $(filter-out src/cmd/% $(isa_skip) $(server_skip) $(kvstore_skip),$(wildcard src/*/*.c src/*/*/*.c))
serve_skip := $(if $(filter 0,$(WITH_SERVER)),%/serve.c,%/serve_none.c)
cmd_src := $(filter-out $(line_skip) $(serve_skip),$(wildcard src/cmd/*.c))
lib_obj := $(lib_src:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/builtin.o
cmd_obj := $(cmd_src:src/%.c=$(BUILD)/obj/%.o)
tool_bin := $(patsubst tools/%.c,$(BUILD)/%,$(wildcard tools/*.c))
bench_bin := $(filter-out $(kvstore_benches),$(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c)))
example_bin := $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
test_src := $(wildcard tests/unit/test_*.c)
tests := $(filter-out $(kvstore_tests),$(test_src:tests/unit/%.c=$(BUILD)/tests/%))
fuzz_bin := $(filter-out $(kvstore_tests),$(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/*.c)))
cli_tests := $(wildcard tests/cli/test_*.sh)

# `make unit T="test_gguf test_bpe"` runs some tests only.
T ?=
chosen := $(if $(T),$(addprefix $(BUILD)/tests/,$(T)),$(tests))

# Commands are echoed whole with `make -n`.
all: $(BUILD)/sluice $(tool_bin) $(example_bin)

help:
	@echo 'all        the program, the tools and the examples (default)'
	@echo 'run        talk with the built-in model'
	@echo 'test       everything below that needs no network: check unit cli asan tsan clang neon amx fuzz-short'
	@echo 'unit       unit tests; T="test_gguf test_bpe" runs some'
	@echo 'cli        tests of the command line'
	@echo 'accuracy   the fast kernels against the reference on the built-in model (5 minutes; Python 3)'
	@echo 'test-clients   real clients against `sluice serve`, from npm'
	@echo 'test-page      the page of `/` in headless Chromium'
	@echo 'load       figures of a server under load: fairness, memory, cost per token, restart'
	@echo 'check      layers, style and documents'
	@echo 'asan tsan  unit tests under the address and undefined-behaviour, and the thread sanitizer'
	@echo 'clang      unit tests built with clang'
	@echo 'neon       kernel tests for arm64 under emulation'
	@echo 'amx        kernel tests of AMX with its tiles in plain C'
	@echo 'fuzz       every fuzz target for FUZZ_SECONDS (600) each; fuzz-short: a fixed number of runs'
	@echo 'soak       SOAK (10000) operations on conversations, each token checked against a fresh reading'
	@echo 'soak-asan soak-tsan   the same under the sanitizers'
	@echo 'soak-kill  KILLS (200) kills of a process that writes to a store, some within a write, some with syncs dropped'
	@echo 'deps       install the packages that the build and the tests need'
	@echo 'install uninstall   into PREFIX ($(PREFIX)), below DESTDIR'
	@echo 'clean      remove $(BUILD)'

# ---- the program ----

$(BUILD)/libsluice.a: $(lib_obj)
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/sluice: $(cmd_obj) $(BUILD)/libsluice.a
	@echo "  CC $@"; $(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) $(libs) $(cmd_libs)

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) $(isa_cflags) $(CFLAGS) $(if $(isa_cflags),$(ISA_CFLAGS)) -c -o $@ $<

# The commit is known to one object only, which is built anew when it changes.
$(BUILD)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(version) $(commit)' | cmp -s - $@ || echo '$(version) $(commit)' > $@
$(BUILD)/obj/engine/version.o: $(BUILD)/commit
$(BUILD)/obj/engine/version.o: isa_cflags := -DSLUICE_VERSION='"$(version)"' -DSLUICE_COMMIT='"$(commit)"'

# The page of "/" is read by page.c's assembler.
$(BUILD)/obj/server/page.o: src/server/page.html

# The built-in model, embedded; empty when the file is not there.
builtin_model := $(wildcard models/builtin.gguf)
$(BUILD)/obj/builtin.o: tools/builtin.S $(builtin_model)
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(if $(builtin_model),-DMODEL='"$(builtin_model)"') -c -o $@ $<

$(BUILD)/%: tools/%.c $(BUILD)/libsluice.a
	@echo "  CC $@"; $(CC) $(base_cflags) $(CFLAGS) -o $@ $< $(BUILD)/libsluice.a $(LDFLAGS) $(libs)

$(BUILD)/examples/%: examples/%.c $(BUILD)/libsluice.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) $(CFLAGS) -o $@ $< $(BUILD)/libsluice.a $(LDFLAGS) $(libs)

$(BUILD)/bench/%: bench/%.c $(BUILD)/libsluice.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) $(CFLAGS) -o $@ $< $(BUILD)/libsluice.a $(LDFLAGS) $(libs)

run: $(BUILD)/sluice
	$(BUILD)/sluice run

# ---- tests ----

# The kernels alone need nothing but libc, so that their tests run under an emulator too.
ops_obj := $(filter-out %/json_text.o,$(filter $(foreach d,base os ops formats/quant,$(BUILD)/obj/$d%),$(lib_obj)))
$(BUILD)/libops.a: $(ops_obj)
	@rm -f $@
	@$(AR) rcs $@ $^
$(BUILD)/tests/test_cpu_ops $(BUILD)/tests/test_cpu_rows $(BUILD)/tests/test_cpu_same: $(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libops.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) -Itests -Wno-missing-prototypes $(CFLAGS) -o $@ $< $(BUILD)/libops.a $(LDFLAGS) -lpthread -lm

$(BUILD)/tests/%: tests/unit/%.c $(BUILD)/libsluice.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) -Itests -Wno-missing-prototypes $(CFLAGS) -o $@ $< $(BUILD)/libsluice.a $(LDFLAGS) \
		-lcmocka $(libs)

unit: $(chosen)
	@tools/run_tests unit $(BUILD)/results $(chosen)

# What WITH_KVSTORE=0 makes, out of the same objects: one test shows that it builds.
$(BUILD)/sluice-without-kvstore: $(cmd_obj) $(filter-out $(kvstore_src:src/%.c=$(BUILD)/obj/%.o),$(lib_obj)) $(BUILD)/obj/kvstore/none.o
	@echo "  CC $@"; $(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) $(libs) $(cmd_libs)

cli: $(BUILD)/sluice $(BUILD)/sluice-without-kvstore $(BUILD)/synth $(example_bin)
	@SLUICE=$(BUILD)/sluice SYNTH=$(BUILD)/synth tools/run_tests cli $(BUILD)/results $(cli_tests)

# Conversations at random, SOAK operations of them.
SOAK ?= 10000
soak: $(BUILD)/tests/test_conversations
	SOAK=$(SOAK) $(BUILD)/tests/test_conversations
# The same under the sanitizers: about an hour, and an hour and a half.
soak-asan soak-tsan: soak-%:
	@SOAK=$(SOAK) $(MAKE) --no-print-directory $* asan_tests=test_conversations tsan_tests=test_conversations

# Kills of a process that writes to a store.
KILLS ?= 200
soak-kill: $(BUILD)/tests/test_kvstore_kill
	KILLS=$(KILLS) $(BUILD)/tests/test_kvstore_kill

# The cpu backend against the reference on the built-in model: likelihood of text, greedy answers. Minutes, and Python 3.
accuracy: $(BUILD)/sluice
	python3 tools/accuracy.py --sluice $(BUILD)/sluice

# Real clients, from npm; not among the tests, which need no network.
test-clients: $(BUILD)/sluice
	@tests/clients/run.sh $(BUILD)/sluice

check:
	@tools/run_tests check $(BUILD)/results tools/check_layers tools/check_style tools/check_docs tools/check_grids tests/check_checks

# Load on a server, as figures; L="streams restart" measures some.
load: $(BUILD)/sluice
	@tests/load/load.py $(BUILD)/sluice $(L)

# The page of `/` in headless Chromium; SHOTS=FOLDER keeps pictures of it.
test-page: $(BUILD)/sluice
	@tests/clients/page.sh $(BUILD)/sluice $(SHOTS)

# A ring builds in its own folder and runs the unit tests there; RING_TESTS names those worth the time.
# test_builtin runs 7,000 tokens through the reference: once, in the unit ring, is enough. test_alloc
# brings its own allocator, as the sanitizers do.
quick_tests := $(filter-out test_builtin test_alloc,$(patsubst tests/unit/%.c,%,$(test_src)))
# Kernels at many sizes and whole passes on every instruction set take minutes in these rings; test_cpu_ops,
# test_cpu_same, test_sameness and test_engine go through the same code there.
kernel_tests := test_sameness_cpu test_cpu_rows
ring_tests := $(filter-out $(kernel_tests),$(quick_tests))
asan_flags := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
tsan_flags := -fsanitize=thread -O1
asan_tests = $(ring_tests)
tsan_tests = $(filter $(patsubst tests/unit/%.c,%,$(test_src)),test_pool test_sameness test_engine test_server test_kvstore test_kvstore_faults \
	test_conversations)
asan:
	@ASAN_OPTIONS=detect_leaks=1 $(MAKE) --no-print-directory ring RING=asan RING_FLAGS='$(asan_flags)' T='$(asan_tests)'
tsan:
	@$(MAKE) --no-print-directory ring RING=tsan RING_FLAGS='$(tsan_flags)' T='$(tsan_tests)'
clang:
	@$(MAKE) --no-print-directory ring RING=clang CC=clang RING_FLAGS='-O1' T='$(ring_tests)'
neon_tests := $(filter $(patsubst tests/unit/%.c,%,$(test_src)),test_cpu_ops test_cpu_rows test_cpu_same)
neon:
	@$(MAKE) --no-print-directory ring RING=neon CC=aarch64-linux-gnu-gcc RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu' WITH_SERVER=0 \
		RING_FLAGS='-march=armv8.2-a+dotprod+fp16' T='$(neon_tests)'
# The tiles of AMX in plain C, on any machine with AVX-512; one that has AMX runs them in every ring.
amx_tests := $(neon_tests) $(filter test_sameness_cpu,$(patsubst tests/unit/%.c,%,$(test_src)))
amx:
	@$(MAKE) --no-print-directory ring RING=amx WITH_SERVER=0 RING_FLAGS='-DAMX_EMULATED' T='$(amx_tests)'
ring:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/$(RING) CFLAGS='$(CFLAGS) $(RING_FLAGS)' LDFLAGS='$(LDFLAGS) $(RING_FLAGS)' \
		ring-tests
ring-tests: $(chosen)
	@RUNNER='$(RUNNER)' tools/run_tests $(notdir $(BUILD)) $(BUILD)/../results $(chosen)

# Fuzzing: one target per parser of untrusted bytes, with clang's libFuzzer.
# No parser is in the kernels, whose unrolled loops take minutes to instrument.
FUZZ_SECONDS ?= 600
fuzz_flags := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -O1
fuzz-build:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzzing CC=clang CFLAGS='$(CFLAGS) $(fuzz_flags)' \
		ISA_CFLAGS=-fno-sanitize=all fuzz-targets
fuzz-targets: $(fuzz_bin)
$(BUILD)/fuzz/seed_%: tests/fuzz/seed_%.c $(BUILD)/libsluice.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) -Itests -Wno-missing-prototypes $(CFLAGS) -fsanitize=address,undefined -o $@ $< $(BUILD)/libsluice.a $(libs)
$(BUILD)/fuzz/%: tests/fuzz/%.c $(BUILD)/libsluice.a
	@mkdir -p $(@D)
	@echo "  CC $@"; $(CC) $(base_cflags) -Itests -Wno-missing-prototypes $(CFLAGS) -fsanitize=fuzzer -o $@ $< $(BUILD)/libsluice.a $(libs)
fuzz: fuzz-build
	@tools/run_fuzz $(BUILD)/fuzzing -max_total_time=$(FUZZ_SECONDS)
fuzz-short: fuzz-build
	@tools/run_tests fuzz $(BUILD)/results tools/run_fuzz_short

# Rings run one after the other and each leaves its counts; the sum is the last line.
test: all
	@rm -rf $(BUILD)/results
	@status=0; for ring in check unit cli asan tsan clang neon amx fuzz-short; do \
		$(MAKE) --no-print-directory $$ring || status=1; done; tools/sum_tests $(BUILD)/results && exit $$status

# ---- packages ----

deps:
	@./bootstrap deps

install: $(BUILD)/sluice $(BUILD)/libsluice.a
	install -Dm755 $(BUILD)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	install -Dm644 $(BUILD)/libsluice.a $(DESTDIR)$(PREFIX)/lib/libsluice.a
	install -Dm644 src/sluice.h $(DESTDIR)$(PREFIX)/include/sluice.h
	install -Dm644 src/sluice_status.h $(DESTDIR)$(PREFIX)/include/sluice_status.h
	@mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|' tools/systemd/sluice.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/sluice.service
	printf 'Name: sluice\nDescription: DeepSeek V4 inference\nVersion: %s\nCflags: -I%s/include\nLibs: -L%s/lib -lsluice %s\n' \
		$(version) $(PREFIX) $(PREFIX) '$(libs)' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/sluice.pc

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/sluice lib/libsluice.a include/sluice.h include/sluice_status.h \
		lib/pkgconfig/sluice.pc lib/systemd/system/sluice.service)

clean:
	rm -rf $(BUILD)

-include $(lib_obj:.o=.d) $(BUILD)/obj/kvstore/none.d $(cmd_obj:.o=.d) $(tests:=.d) $(tool_bin:=.d) $(example_bin:=.d) $(bench_bin:=.d)
.PHONY: all help run test test-clients test-page load soak soak-asan soak-tsan soak-kill accuracy unit cli check asan tsan clang neon amx ring ring-tests \
	fuzz fuzz-short fuzz-build \
	fuzz-targets deps install uninstall clean FORCE
