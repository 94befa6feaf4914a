# Faceptor Edge. `make` lists what there is; README.md begins with `make demo` and `make test`.
# Everything is the release profile: each crate is compiled once, and the network is slow without optimization.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

# The commit named in the reports of `faceptor bench`.
export FACEPTOR_GIT ?= $(shell git describe --always --dirty --abbrev=12 2>/dev/null)

CARGO_FLAGS ?=
# Passed to the test programs, for example TEST_ARGS=--show-output.
TEST_ARGS ?=
# Number of frames of `make demo`; the clip repeats.
FRAMES ?= 60
# Duration of `make soak`.
MINUTES ?= 60
# Duration of `make fuzz` for each target.
FUZZ_SECONDS ?= 120
DEMO_OUT ?= target/demo.png

TARGET = $(or $(CARGO_TARGET_DIR),target)
# The program of `make cross`.
ARM64 = $(TARGET)/cross/aarch64-unknown-linux-gnu/release/faceptor

# Name of the container images.
IMAGE ?= faceptor

# A real board for `make board-test`, as a destination of ssh: BOARD=user@host. Without it, the virtual one.
BOARD ?=

.PHONY: help demo build test lint container container-test deb apt-repo deb-test flash-test image image-run image-keys image-bundle image-test models-test behaviour preview-test cross cross-test cross-docker board-test board-instructions bench bench-cores bench-search test-qdrant bench-peers bench-python profile soak sanitize fuzz test-tls test-no-expression rebuilds release capi test-capi capi-arm64 test-capi-arm64 wheel wheel-arm64 test-python-wheel test-ray test-python-wheel-arm64 bench-batch gst-plugin test-gst clean tools

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: build  ## the network on the embedded clip: results, latency table, an annotated picture
	@mkdir -p $(dir $(DEMO_OUT))
	cargo run --release --quiet $(CARGO_FLAGS) -- run --source demo --tasks all --frames $(FRAMES) --out $(DEMO_OUT) --force
	@echo "The last frame, annotated: $(DEMO_OUT)"

build: tools  ## the program `faceptor`, with the network embedded
	cargo build --release $(CARGO_FLAGS)

test: tools  ## every Rust test; the networks' Python tests too, once `make models-test` has made their environment
	cargo test --release --workspace $(CARGO_FLAGS) -- $(TEST_ARGS)
	@$(MAKE) --no-print-directory -C models test-if-ready

lint: tools  ## formatting, clippy, documentation and structure, without warnings
	cargo fmt --all --check
	.ci/structure
	.ci/unit-graph
	cargo clippy --release --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --quiet $(CARGO_FLAGS)

fuzz: build  ## fuzzes every parser of input from outside, FUZZ_SECONDS (120) each; installs cargo-fuzz when it is missing
	fuzz/run $(FUZZ_SECONDS)

test-tls:  ## tests a program with TLS (the cargo feature tls): encrypted MQTT, webhook and push, certificates that must be refused; docs/buses.md
	cargo test --release $(CARGO_FLAGS) --features tls --lib -- outputs::http cli::gallery
	cargo test --release $(CARGO_FLAGS) --features tls --test integration -- tls:: push:: buses::

test-no-expression:  ## tests a program without the expression task (the cargo feature no-expression); docs/privacy.md
	cargo test --release $(CARGO_FLAGS) --package faceptor-nn --features no-expression --lib -- bundle::reader
	cargo test --release $(CARGO_FLAGS) --features no-expression --test integration -- expression::

rebuilds: build  ## checks that only the sources of the network compile it again
	.ci/rebuilds

models-test: ## the networks' Python tests; makes their environment (PyTorch, about 6 GB) when it is missing
	$(MAKE) -C models test

behaviour:  ## the tables of docs/behaviour.md: jitter, lag and stability of a run, errors by light
	$(MAKE) -C models behaviour

preview-test: build  ## the preview page in headless Chromium, with screenshots; installs Chromium when it is missing
	tests/preview_page.py

release: deb wheel wheel-arm64  ## the release in dist/, with SHA-256 sums: programs, Debian packages and wheels for x86-64 and arm64, bundles, licences
	.ci/release

cross: build  ## the program for arm64 (glibc at most 2.35); installs the cross toolchain when it is missing
	cross/toolchain.sh
	cross/build.sh

deb: build cross  ## Debian packages for amd64 and arm64, in packages/ of the target folder; docs/packages.md
	cargo build --release $(CARGO_FLAGS) --example manual
	rm -rf $(TARGET)/manual $(TARGET)/packages
	$(TARGET)/release/examples/manual $(TARGET)/manual
	packaging/deb.sh --manual $(TARGET)/manual --out $(TARGET)/packages amd64=$(TARGET)/release/faceptor arm64=$(ARM64)

apt-repo: deb  ## a signed apt repository of these packages, in apt-repo/ of the target folder; APT_KEY=FINGERPRINT signs with your key
	packaging/apt-repo.sh --out $(TARGET)/apt-repo $(TARGET)/packages/*.deb

deb-test: deb  ## lintian; install, upgrade, remove, purge in a clean Debian; with BOARD=1 also under systemd on the virtual board
	packaging/image/test_slots.py && packaging/image/test_examination.py
	packaging/test.sh --packages $(TARGET)/packages --manual $(TARGET)/manual --program $(TARGET)/release/faceptor
	$(if $(BOARD),packaging/board/test.sh --packages $(TARGET)/packages)

flash-test:  ## packaging/image/flash on files, and as root on loop devices: what it refuses, writes and verifies
	packaging/image/test_flash.py

image: deb  ## an image to flash, for arm64 machines with UEFI, in image/ of the target folder, without root; docs/image.md
	packaging/image/build.sh --package $(TARGET)/packages/faceptor_*_arm64.deb --program $(TARGET)/release/faceptor --out $(TARGET)/image

image-run:  ## boots the image of `make image` on a virtual board: a test camera, and its preview page in this machine's browser
	packaging/image/run.py $(TARGET)/image/faceptor-*-arm64.img

image-keys:  ## the keys that sign system updates, outside the project, where they are missing; prints their folder
	packaging/image/keys.sh

image-bundle:  ## a signed update of boards from the image of `make image`, in image/ of the target folder; docs/image.md
	packaging/image/bundle.py $(TARGET)/image/faceptor-*-arm64.img --out $(TARGET)/image/faceptor.raucb

image-test: image  ## the image on a virtual board: first boots, damage, updates, rollbacks (an hour); CASE=NAME runs one; docs/image.md
	packaging/image/test.py $(TARGET)/image/faceptor-*-arm64.img $(addprefix --case ,$(CASE)) $(if $(KILLS),--kills $(KILLS)) $(if $(WORK),--work $(WORK))

container: cross  ## container images for amd64 and arm64, without the network compiler; needs Docker; docs/container.md
	mkdir -p $(TARGET)/container
	$(TARGET)/release/faceptor compile models/edge --out $(TARGET)/container/edge.bundle --force
	FACEPTOR_BUNDLE=$(abspath $(TARGET))/container/edge.bundle cargo build --release $(CARGO_FLAGS) --no-default-features --features embedded
	cp $(TARGET)/release/faceptor $(TARGET)/container/faceptor
	cargo build --release $(CARGO_FLAGS)
	packaging/container/build.sh --tag $(IMAGE) amd64=$(TARGET)/container/faceptor arm64=$(ARM64)

container-test: container  ## runs the image: demo clip, pipe, photo, read-only root without network and capabilities
	packaging/container/test.sh $(IMAGE):latest

bench: build  ## the latency figures of docs/bench.md on this machine, as Markdown (10 minutes; FRAMES=1000 SECONDS=10 is quicker)
	cargo bench $(CARGO_FLAGS) --bench figures --quiet

profile: build  ## the cost of each step of the network on this machine: a table, and the picture docs/profile.svg
	$${CARGO_TARGET_DIR:-target}/release/faceptor bench --tasks all --profile docs/profile.svg

soak: build  ## the loop at 30 frames/s for MINUTES (60): memory, gaps, rate; fails when memory grows or a lost frame is not counted
	benches/soak.py --minutes $(MINUTES) --program $${CARGO_TARGET_DIR:-target}/release/faceptor

sanitize: build  ## tests of kernels, operators and engine under AddressSanitizer
	tests/sanitize.sh

cross-test: build  ## builds for arm64 and runs the tests under QEMU; installs the cross toolchain when it is missing
	cross/toolchain.sh
	cross/test.sh

cross-docker: cross  ## the program for arm64 built and tested with `cross` in a container, compared with that of `make cross`; needs Docker
	cross/docker.sh

board-test: build  ## the camera loop on an arm64 board: a virtual one, BOARD=user@host over ssh, or BOARD=image; see cross/README.md
	cargo build --release $(CARGO_FLAGS) --example demo_clip
	cross/toolchain.sh
	cross/board/test.sh $(if $(BOARD),--board $(BOARD))

board-instructions: build  ## instructions of one face on virtual boards with three CPUs, beside tract, ONNX Runtime and MNN; compiles tract for arm64 once
	cross/toolchain.sh
	cross/board/instructions.sh

bench-cores:  ## what LLVM's machine models predict for the inner loops on ten ARM cores: the tables of docs/engine.md (some minutes)
	cross/toolchain.sh
	benches/cores/run

capi: $(if $(FACEPTOR_BUNDLE),,build)  ## the C library in capi/out of the target folder: faceptor.h, libfaceptor.so and .a, faceptor.pc; docs/c.md
	crates/faceptor-capi/library.sh $(TARGET)/capi/out

test-capi: build capi  ## tests the C library as programs see it: strict compilation, answers, misuse, valgrind, examples
	crates/faceptor-capi/test.sh $(TARGET)/capi/out

capi-arm64: $(if $(FACEPTOR_BUNDLE),,build)  ## the C library for arm64, in capi/aarch64 of the target folder
	cross/toolchain.sh
	FACEPTOR_ARCH=aarch64 crates/faceptor-capi/library.sh $(TARGET)/capi/aarch64

test-capi-arm64: build capi-arm64  ## the same tests under QEMU's user emulation, without valgrind (some minutes)
	FACEPTOR_ARCH=aarch64 crates/faceptor-capi/test.sh $(TARGET)/capi/aarch64

wheel: $(if $(FACEPTOR_BUNDLE),,build)  ## the Python package as a wheel for x86-64 (glibc 2.28), in wheels/ of the target folder; docs/python.md
	crates/faceptor-python/wheel.sh x86_64

wheel-arm64: $(if $(FACEPTOR_BUNDLE),,build)  ## the wheel for arm64 (glibc 2.28)
	cross/toolchain.sh
	crates/faceptor-python/wheel.sh aarch64

test-python-wheel: build wheel  ## installs the wheel into a fresh environment and tests it against the program
	crates/faceptor-python/test.sh

test-ray: build wheel  ## batches on a real Ray cluster of two workers, which are killed, and so is the driver; installs Ray (1 GB)
	crates/faceptor-python/test.sh --ray

test-python-wheel-arm64: build wheel-arm64  ## the arm64 wheel under QEMU's user emulation, with Debian's Python for arm64 (some minutes)
	crates/faceptor-python/test-arm64.sh

gst-plugin: $(if $(FACEPTOR_BUNDLE),,build)  ## the GStreamer plugin in gst/ of the target folder; installs GStreamer's headers; docs/gstreamer.md
	crates/gst-plugin-faceptor/plugin.sh $(TARGET)/gst

test-gst: build gst-plugin  ## tests the GStreamer plugin in real pipelines: answers of the program, formats, QoS, drawing, bad input
	crates/gst-plugin-faceptor/test.sh $(TARGET)/gst

bench-python: build wheel  ## `analyze` of the wheel compared with the library itself, interleaved: a table (a minute)
	cargo build --release $(CARGO_FLAGS) --example library_time
	crates/faceptor-python/test.sh --bench $(TARGET)/release/examples/library_time

bench-batch: build wheel  ## photos a second of a batch: the program, one Python process, a Ray cluster (some minutes; installs Ray, 1 GB)
	crates/faceptor-python/test.sh --bench-batch

bench-search:  ## the exact search of a million templates beside FAISS and usearch, interleaved: a table (some minutes; installs them, 250 MB)
	benches/search/run

test-qdrant: build  ## pushes 100,000 templates to Qdrant's engine, and compares its answers with the exact search (minutes; installs it, 130 MB)
	tests/qdrant/run

bench-peers: build  ## a comparison with other engines on the same network, interleaved: a table; installs them (about 1 GB)
	benches/peers/run

clean:  ## removes what the build made
	cargo clean

tools:
	@.ci/tools
