#!/usr/bin/env bash
# Runs the tests of kernels, operators and engine, and the shipped network on every kernel family of this CPU, under
# AddressSanitizer: a read or write outside of any buffer ends the test, also where a vector instruction does it, which
# bypasses Rust's checks.
#
#     tests/sanitize.sh           after a host build (`make sanitize` does both)
#
# The sanitizer's runtime comes with the stable toolchain, its switch does not: RUSTC_BOOTSTRAP lets it through. The host's
# program compiles the network, so that tract need not be built with the sanitizer as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host_target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$host_target/sanitize
mkdir -p "$CARGO_TARGET_DIR"
bundle=$CARGO_TARGET_DIR/edge.bundle
"$host_target/release/faceptor" compile models/edge --out "$bundle.new" >/dev/null
cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
rm -f "$bundle.new"
export FACEPTOR_BUNDLE=$bundle RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
target=$(rustc -vV | sed -n 's/^host: //p')
read -ra flags <<<"${CARGO_FLAGS:-}"
build=(--release --target "$target" "${flags[@]}")
embedded=(--no-default-features --features embedded)
(cd crates/faceptor-nn && cargo test "${build[@]}" --lib)
(cd crates/faceptor && cargo test "${build[@]}" "${embedded[@]}" --test integration)
cargo test "${build[@]}" "${embedded[@]}" --test integration -- parity::
