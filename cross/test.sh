#!/usr/bin/env bash
# Builds faceptor for arm64, runs its tests under QEMU's user emulation and compares its answers with the host's.
#
#     cross/test.sh               after cross/toolchain.sh and a host build (`make cross-test` does all three)
#
# Emulation is about a hundred times slower than a real core: it shows that answers are right, never how fast they come.
set -euo pipefail
# shellcheck source=build.sh
source "$(dirname "$0")/build.sh"

# The container's settings are these.
while read -r setting; do
    grep -qxF "export ${setting#ENV }" cross/env.sh || { echo "cross: env.sh does not say what cross/Dockerfile says: $setting" >&2; exit 1; }
done < <(grep '^ENV ' cross/Dockerfile)

# The tests start the program by its path, and a kernel without binfmt_misc cannot start it: a script of that name does.
say "tests under $(qemu-aarch64-static --version | head -n 1)"
list='import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("profile", {}).get("test") and message.get("executable"):
        print(message["executable"], os.path.dirname(message["manifest_path"]), sep="\t")'
messages=$CARGO_TARGET_DIR/tests.json
# The compiler of networks runs on the host alone, and so do its tests.
cargo test "${build[@]}" --workspace --exclude faceptor-compiler --lib --tests --no-run --message-format json-render-diagnostics >"$messages"
mapfile -t tests < <(python3 -c "$list" <"$messages")
for crate in . crates/faceptor crates/faceptor-nn; do
    grep -qF "$(printf '\t%s' "$(realpath "$crate")")" <<<"$(printf '%s\n' "${tests[@]}")" ||
        { echo "cross: no tests of $crate were built" >&2; exit 1; }
done
mv "$arm64" "$arm64.elf"
printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER" "$arm64.elf" >"$arm64"
chmod +x "$arm64"
read -ra emulator <<<"$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
# Modules of the program's integration tests that are left out here, each `--skip NAME::`.
# These keep a pace that emulation cannot: a hundred frames a second. The loop's arm64 test is the board's (make board-test);
# its rules are tested with scripted time among the unit tests, which do run here.
paced=(bench control live outputs preview run)
# These run the whole network on a thousand frames of scripted time, minutes of emulation for rules that hold no kernel.
long=(tracking overload)
# It counts the page faults of its thread, and an emulator's own are among them: alone it passes here, beside other tests it does not.
faults=what_is_allocated_after_the_heap_was_touched_faults_no_more
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
