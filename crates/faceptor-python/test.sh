#!/usr/bin/env bash
# Installs the wheel of this machine into a fresh environment and runs the tests on it.
#
#     crates/faceptor-python/test.sh [ARGUMENTS OF PYTEST]      after wheel.sh (`make test-python-wheel` does both)
#     crates/faceptor-python/test.sh --bench LIBRARY [ARGUMENTS]  runs benches/python.py with it instead
#     crates/faceptor-python/test.sh --ray [ARGUMENTS OF PYTEST]  the tests of batches on a Ray cluster, for which it installs Ray (1 GB)
#     crates/faceptor-python/test.sh --bench-batch [ARGUMENTS]    runs benches/batch.py instead, with Ray too
#     FACEPTOR_PROGRAM=FILE         the program whose answers the wheel's must equal (default: that of `make build`)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
export FACEPTOR_PROGRAM=${FACEPTOR_PROGRAM:-$target/release/faceptor}
[ -x "$FACEPTOR_PROGRAM" ] || { echo "test: $FACEPTOR_PROGRAM is missing: run 'make build' first" >&2; exit 1; }
# shellcheck source=tools.sh
source "$here/tools.sh"
case ${1:-} in
    --ray | --bench-batch) python_tools requirements-ray.txt ;;
    *) python_tools ;;
esac
wheel=$(echo "$target"/wheels/faceptor-*_"$(uname -m)".whl)
[ -e "$wheel" ] || { echo "test: no wheel in $target/wheels: run 'make wheel' first" >&2; exit 1; }
library=$(realpath -m -- "${2:-.}")
installed=$(mktemp -d)
trap 'rm -rf "$installed"' EXIT
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$installed" "$wheel"
# The tests run outside the checkout: they see what users install.
cd "$installed"
export PYTHONPATH=$installed MYPYPATH=$installed PYTHONDONTWRITEBYTECODE=1
if [ "${1:-}" = --bench ]; then
    "$tools/bin/python" "$root/benches/python.py" --library "$library" "${@:3}"
    exit
fi
if [ "${1:-}" = --bench-batch ]; then
    "$tools/bin/python" "$root/benches/batch.py" "${@:2}"
    exit
fi
tests=("$here/tests" --ignore "$here/tests/test_ray.py")
if [ "${1:-}" = --ray ]; then
    tests=("$here/tests/test_ray.py")
    shift
fi
"$tools/bin/python" -m pytest -p no:cacheprovider --rootdir "$here" -c "$here/pyproject.toml" "${tests[@]}" "$@"
