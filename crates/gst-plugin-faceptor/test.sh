#!/usr/bin/env bash
# Tests the GStreamer plugin in real pipelines, and compares its answers with the program's.
#
#     crates/gst-plugin-faceptor/test.sh FOLDER [ARGUMENTS OF UNITTEST]   the folder of plugin.sh (`make test-gst` does both)
#     FACEPTOR_PROGRAM=FILE      the program whose answers the element's must equal (default: that of `make build`)
#     GST_PROFILE=dev            as for plugin.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath "${1:?the folder of plugin.sh}")
shift
export FACEPTOR_PROGRAM=${FACEPTOR_PROGRAM:-$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release/faceptor}
[ -x "$FACEPTOR_PROGRAM" ] || { echo "test-gst: $FACEPTOR_PROGRAM is missing: run 'make build' first" >&2; exit 1; }
packages=(gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good python3-gi gir1.2-gst-plugins-base-1.0)
dpkg-query -W -f '${Status}\n' "${packages[@]}" 2>/dev/null | grep -c 'ok installed' | grep -qx ${#packages[@]} ||
    "$root/.ci/install" "${packages[@]}"
cargo fmt --check --manifest-path "$here/Cargo.toml"
read -ra flags <<<"${CARGO_FLAGS:-}"
cargo test --quiet --profile "${GST_PROFILE:-release}" --manifest-path "$here/Cargo.toml" "${flags[@]}"
registry=$(mktemp)
trap 'rm -f "$registry"' EXIT
# A registry of their own, so that the tests see this plugin and leave the user's list of plugins alone.
export GST_PLUGIN_PATH=$out GST_REGISTRY=$registry G_DEBUG=fatal-criticals PYTHONDONTWRITEBYTECODE=1
cd "$root"
# The distribution's Python: it has the bindings of GStreamer.
/usr/bin/python3 -m unittest discover --start-directory "$here/tests" --verbose "$@"
