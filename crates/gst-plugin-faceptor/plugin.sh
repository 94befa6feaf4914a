#!/usr/bin/env bash
# Builds the GStreamer plugin into a folder, for GST_PLUGIN_PATH: libgstfaceptor.so. Installs the headers of GStreamer when they are missing.
#
#     crates/gst-plugin-faceptor/plugin.sh OUT   after `make build` (`make gst-plugin` does both)
#     FACEPTOR_BUNDLE=FILE                       a ready network in place of that of models/edge; no host build is needed then
#     GST_PROFILE=dev                            another profile of cargo, for trying things out
#
# The crate is a workspace of its own: nothing else of the project needs GStreamer to be compiled.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${1:?a folder for the plugin}")
cd "$root"
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
pkg-config --exists 'gstreamer-video-1.0 >= 1.18' 2>/dev/null ||
    .ci/install pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
if [ -z "${FACEPTOR_BUNDLE:-}" ]; then
    # The program of `make build` compiles the network, so that its compiler (tract) is not built once more.
    host=$CARGO_TARGET_DIR/release/faceptor
    [ -x "$host" ] || { echo "gst-plugin: $host is missing: run 'make build' first" >&2; exit 1; }
    mkdir -p "$CARGO_TARGET_DIR/gst-plugin"
    # Replaced only if it differs: its time stamp decides whether cargo builds again.
    bundle=$CARGO_TARGET_DIR/gst-plugin/network.bundle
    "$host" compile models/edge --out "$bundle.new" --force >/dev/null
    cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
    rm -f "$bundle.new"
    export FACEPTOR_BUNDLE=$bundle
fi
profile=${GST_PROFILE:-release}
read -ra flags <<<"${CARGO_FLAGS:-}"
cargo build --quiet --profile "$profile" --manifest-path "$here/Cargo.toml" "${flags[@]}"
[ "$profile" = dev ] && folder=debug || folder=$profile
mkdir -p "$out"
install -m 755 "$CARGO_TARGET_DIR/$folder/libgstfaceptor.so" "$out"
echo "gst-plugin: $out/libgstfaceptor.so: $(stat -c %s "$out/libgstfaceptor.so") bytes"
