#!/usr/bin/env bash
# Installs the arm64 wheel under QEMU's user emulation and uses it there, with Debian's Python and numpy for arm64.
#
#     crates/faceptor-python/test-arm64.sh      after wheel.sh aarch64 (`make test-python-wheel-arm64` does both)
#     FACEPTOR_PROGRAM=FILE                     the host's program, whose answers the wheel's must agree with
#     FACEPTOR_PYTHON=DIR                       where Python is unpacked (default ~/.cache/faceptor-python)
#
# Nothing is installed on the system, and no foreign architecture is added to it. Emulation says that results are right, not how fast.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
program=${FACEPTOR_PROGRAM:-$target/release/faceptor}
[ -x "$program" ] || { echo "test-arm64: $program is missing: run 'make build' first" >&2; exit 1; }
wheel=$(echo "$target"/wheels/faceptor-*_aarch64.whl)
[ -e "$wheel" ] || { echo "test-arm64: no arm64 wheel in $target/wheels: run 'make wheel-arm64' first" >&2; exit 1; }
# shellcheck source=tools.sh
source "$here/tools.sh"
python_tools
# shellcheck source=../../cross/apt.sh
source "$root/cross/apt.sh"

arm64=${FACEPTOR_PYTHON:-$HOME/.cache/faceptor-python}/arm64
if [ ! -x "$arm64/usr/bin/python3" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/debs"
    private_apt "$work"
    # The packages that numpy needs, without the alternatives of its linear algebra and the tools that only installing needs.
    mapfile -t packages < <("${cache[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances python3-numpy:arm64 | grep -E '^[a-z].*:arm64$' | grep -vE '^(libatlas|libblis|libopenblas|dpkg|tar|install-info|perl)' | sort -u)
    (cd "$work/debs" && "${apt[@]}" download "${packages[@]}" >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
    rm -rf "$arm64.new" "$arm64"
    for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$arm64.new"; done
    mv "$arm64.new" "$arm64"
    echo "test-arm64: $(ls "$work/debs" | wc -l) packages unpacked in $arm64"
fi

installed=$(mktemp -d)
trap 'rm -rf "$installed" "${work:-$installed}"' EXIT
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$installed" \
    --platform manylinux_2_28_aarch64 --implementation cp --python-version 3.9 --abi abi3 --only-binary :all: "$wheel"
for package in pytest _pytest pluggy iniconfig packaging pygments; do
    cp -r "$("$tools/bin/python" -c "import $package; print($package.__path__[0])")" "$installed/"
done
cp "$("$tools/bin/python" -c "import py; print(py.__file__)")" "$installed/"
cp "$("$tools/bin/python" -c "import importlib.metadata as m; print(m.distribution('pytest')._path)")" -r "$installed/"
# libblas and liblapack lie in folders of their own: alternatives choose among them where packages are installed.
libraries=$arm64/usr/lib/aarch64-linux-gnu
python=(qemu-aarch64-static -L "$arm64" -E "LD_LIBRARY_PATH=$libraries/blas:$libraries/lapack"
    -E "PYTHONPATH=$installed" -E PYTHONDONTWRITEBYTECODE=1 "$arm64/usr/bin/python3")
cd "$installed"
echo "test-arm64: $("${python[@]}" -c 'import platform, sys, numpy, faceptor
print("Python", sys.version.split()[0], "numpy", numpy.__version__, "on", platform.machine(), "with", faceptor.Analyzer(tasks=[], looks=1))')"
photo=$root/models/demo/astronaut.jpg
"$program" image --json --tasks all --looks 1 "$photo" >host.json
"${python[@]}" -c "import faceptor, sys; print(faceptor.Analyzer(tasks='all', looks=1).analyze(sys.argv[1]).to_json())" "$photo" >arm64.json
python3 "$root/cross/agree.py" host.json arm64.json
"${python[@]}" -m pytest -p no:cacheprovider --rootdir "$here" -c "$here/pyproject.toml" "$here/tests/test_images.py" \
    "$here/tests/test_analyzer.py" -k 'refused or freed or cameras or odd'
