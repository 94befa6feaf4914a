#!/usr/bin/env bash
# Builds faceptor for arm64, runs its tests under QEMU's user emulation and compares its results with the host's.
#
#     cross/test.sh               after cross/toolchain.sh and a host build (`make cross-test` does all three)
#
# Emulation is about a hundred times slower than a real core: it shows that results are right, but not how fast the program is.
set -euo pipefail
# shellcheck source=build.sh
source "$(dirname "$0")/build.sh"

# The container's settings must equal those of env.sh.
while read -r setting; do
    grep -qxF "export ${setting#ENV }" cross/env.sh || { echo "cross: env.sh lacks a setting of cross/Dockerfile: $setting" >&2; exit 1; }
done < <(grep '^ENV ' cross/Dockerfile)

# The tests start the program by its path. A kernel without binfmt_misc cannot start it, so a script takes its name.
say "tests under $(qemu-aarch64-static --version | head -n 1)"
list='import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("profile", {}).get("test") and message.get("executable"):
        print(message["executable"], os.path.dirname(message["manifest_path"]), sep="\t")'
messages=$CARGO_TARGET_DIR/tests.json
# The network compiler, and the layouts of the C library, which a C compiler of the host shows, are tested on the host only;
# crates/faceptor-python/test-arm64.sh tests the Python package.
cargo test "${build[@]}" --workspace --exclude faceptor-compiler --exclude faceptor-python --exclude faceptor-capi --lib --tests --no-run --message-format json-render-diagnostics >"$messages"
mapfile -t tests < <(python3 -c "$list" <"$messages")
for crate in . crates/faceptor crates/faceptor-gallery crates/faceptor-identity crates/faceptor-nn crates/faceptor-results; do
    grep -qF "$(printf '\t%s' "$(realpath "$crate")")" <<<"$(printf '%s\n' "${tests[@]}")" ||
        { echo "cross: no tests of $crate were built" >&2; exit 1; }
done
mv "$arm64" "$arm64.elf"
printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER" "$arm64.elf" >"$arm64"
chmod +x "$arm64"
read -ra emulator <<<"$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
# Modules of the program's integration tests that do not run here, each `--skip NAME::`.
# These need a rate that emulation cannot reach: a hundred frames a second. make board-test tests the loop on arm64;
# the unit tests, which do run here, test its rules with a virtual clock.
paced=(bench buses control live outputs preview run signals)
# These run the network on a thousand frames or on dozens of photos, most of them at many rolls and sizes: hours of emulation for rules
# that use no kernel. `signatures`, `streams`, `video`, `updates`,
# `downloads` and `system_updates` run programs of the host. `files` and `photo_names` start the program a hundred
# times. `gallery_disk` starts it as another user, who may not read where the emulated program lies. The answers for a photo are
# compared at the end.
long=(tracking overload films files finding gallery photo_names photos damaged_photos trust cuts names enrolment signatures streams video
    batches blur migration people several_sources strangers gallery_disk updates downloads system_updates)
# This one counts the page faults of its thread, which include the emulator's: it passes here alone, but not next to other tests.
faults=allocations_from_the_touched_heap_fault_no_page
say "left to make board-test: ${paced[*]}; left to the host: ${long[*]}, $faults"
for entry in "${tests[@]}"; do
    IFS=$'\t' read -r test folder <<<"$entry"
    name=$(basename "$test")
    skip=(--skip "$faults")
    if [ "$folder" = "$root" ] && [[ $name == integration-* ]]; then
        for module in "${paced[@]}" "${long[@]}"; do
            [ -f "tests/integration/$module.rs" ] || { echo "cross: tests/integration/$module.rs is gone: correct the lists of cross/test.sh" >&2; exit 1; }
            skip+=(--skip "$module::")
        done
    fi
    echo "     Running $name of $folder for arm64"
    # Cargo starts a crate's tests in its folder.
    (cd "$folder" && "${emulator[@]}" "$test" "${skip[@]}")
done

photo=models/demo/astronaut.jpg
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
"$host" image "$photo" --tasks all --json >"$answers/host.json"
"$arm64" image "$photo" --tasks all --json >"$answers/arm64.json"
python3 cross/agree.py "$answers/host.json" "$answers/arm64.json"
