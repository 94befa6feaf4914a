#!/usr/bin/env bash
# Tests the C library as programs see it: strict compilation, symbols, answers, misuse, memory under valgrind, the examples.
#
#     crates/faceptor-capi/test.sh FOLDER        the folder of library.sh (`make test-capi` does both)
#     FACEPTOR_PROGRAM=FILE                      the program whose answers the library's must equal (default: that of `make build`)
#     FACEPTOR_ARCH=aarch64                      FOLDER is for arm64: the programs run under QEMU, and valgrind and OpenCV are left out
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath "${1:?the folder of library.sh}")
program=${FACEPTOR_PROGRAM:-$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/release/faceptor}
[ -x "$program" ] || { echo "test-capi: $program is missing: run 'make build' first" >&2; exit 1; }
# The command that starts the programs, and tools that read their files.
start=() nm=nm
if [ "${FACEPTOR_ARCH:-}" = aarch64 ]; then
    start=(qemu-aarch64-static -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$out/lib") nm=aarch64-linux-gnu-nm
    export CC=${CC:-aarch64-linux-gnu-gcc}
fi
for tool in valgrind pkg-config; do command -v $tool >/dev/null || "$root/.ci/install" $tool; done
say() { echo "test-capi: $*"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH=$out/lib/pkgconfig
[ "${start[*]}" ] || export LD_LIBRARY_PATH=$out/lib
read -ra c <<<"${CC:-cc} -Wall -Wextra -pedantic -Werror -O1 -g $(pkg-config --cflags faceptor)"
read -ra libraries <<<"$(pkg-config --libs faceptor)"
photo=$root/models/demo/astronaut.jpg

# Symbols: those of the header with their version, and no other; the soname.
abi=$(sed -n 's/^#define FACEPTOR_ABI_VERSION //p' "$out/include/faceptor.h")
declared=$(grep -oE '\bfaceptor_[a-z_]+\(' "$out/include/faceptor.h" | tr -d '(' | sort -u)
exported=$($nm --dynamic --defined-only --with-symbol-versions "$out/lib/libfaceptor.so" | awk '$2 == "T" {print $3}' | sort)
[ "$exported" = "$(sed "s/\$/@@FACEPTOR_$abi/" <<<"$declared" | sort)" ] || { say "other symbols than the header's: $exported" >&2; exit 1; }
readelf -d "$out/lib/libfaceptor.so" | grep -qF "[libfaceptor.so.$abi]" || { say "no soname" >&2; exit 1; }
say "$(wc -l <<<"$exported") symbols, soname libfaceptor.so.$abi"

for test in use misuse gallery; do
    "${c[@]}" -std=c99 "$here/tests/c/$test.c" "${libraries[@]}" -lm -o "$work/$test"
    # Once more with the static library.
    "${c[@]}" -std=c99 "$here/tests/c/$test.c" "$out/lib/libfaceptor.a" $(pkg-config --libs --static faceptor | sed 's/-lfaceptor//') -lm -o "$work/$test-static"
done
"${c[@]}" -std=c99 "$here/examples/faces.c" "${libraries[@]}" -o "$work/faces"
# A photo without loss, whose pixels are read here: the program's annotated picture of the other one.
python3 - "$photo" "$program" "$work" <<'PYTHON'
import json, pathlib, subprocess, sys, zlib
photo, program, work = sys.argv[1:]
subprocess.run([program, "image", "--tasks", "none", "--out", work, photo], check=True, capture_output=True)
png = next(pathlib.Path(work).glob("*.png")).read_bytes()
place, data = 8, b""
while place < len(png):
    length, kind = int.from_bytes(png[place:place + 4], "big"), png[place + 4:place + 8]
    if kind == b"IHDR":
        width, height = int.from_bytes(png[place + 8:place + 12], "big"), int.from_bytes(png[place + 12:place + 16], "big")
        assert png[place + 16:place + 18] == b"\x08\x02", "8 bit RGB"
    data += png[place + 8:place + 8 + length] if kind == b"IDAT" else b""
    place += 12 + length
raw, rows, above = zlib.decompress(data), bytearray(), bytearray(width * 3)
for y in range(height):
    filter, line = raw[y * (width * 3 + 1)], bytearray(raw[y * (width * 3 + 1) + 1:(y + 1) * (width * 3 + 1)])
    for x in range(width * 3):
        left, up, corner = line[x - 3] if x >= 3 else 0, above[x], above[x - 3] if x >= 3 else 0
        if filter == 1: line[x] = line[x] + left & 255
        elif filter == 2: line[x] = line[x] + up & 255
        elif filter == 3: line[x] = line[x] + (left + up) // 2 & 255
        elif filter == 4:
            by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            line[x] = line[x] + (left if by_left <= by_up and by_left <= by_corner else up if by_up <= by_corner else corner) & 255
    rows, above = rows + line, line
pathlib.Path(work, "rgb").write_bytes(rows)
# A part with the face, for valgrind.
side, left = 256, 96
part = [bytes(rows[(y * width + left) * 3:(y * width + left + side) * 3]) for y in range(side)]
pathlib.Path(work, "part.rgb").write_bytes(b"".join(part))
chunk = lambda kind, data: len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
header = side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
data = zlib.compress(b"".join(b"\0" + row for row in part))
pathlib.Path(work, "part.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
pathlib.Path(work, "size").write_text(f"{width} {height}\n")
PYTHON
read -r width height <"$work/size"
"$program" image --json --tasks all --looks 1 "$photo" "$work/$(basename "$photo" .jpg).png" >"$work/program.json"
for test in use use-static; do
    "${start[@]}" "$work/$test" "$photo" "$work/rgb" "$width" "$height" >"$work/$test.json"
    python3 - "$work/program.json" "$work/$test.json" "$root/cross" "${start[*]}" <<'PYTHON'
import json, sys
expected, lossless, *rest = (json.loads(line) for file in sys.argv[1:3] for line in open(file))
assert len(rest) == 4 and rest[0]["path"] == expected["path"] and "path" not in rest[1]
strip = lambda answer: {key: value for key, value in answer.items() if key not in ("path", "timing_us")}
wanted, found = [strip(expected)] * 2 + [strip(lossless)] * 2, [strip(answer) for answer in rest]
if sys.argv[4]:
    # Floats round differently on arm64.
    sys.path.insert(0, sys.argv[3])
    import agree
    agree.compare(wanted, found, "answers", "", {})
else:
    assert wanted == found, "other answers than the program's"
PYTHON
    say "$test: a file, its content, RGB and BGR pixels have the program's answers"
done
mkdir "$work/people"
"${start[@]}" "$work/gallery" "$photo" "$work/people" >"$work/gallery.json"
options=(--gallery "$work/people/door.gallery" --key "$work/people/door.key" --json)
{ "$program" identify "$photo" "${options[@]}"; "$program" gallery list "${options[@]}"; } >"$work/people.json"
python3 - "$work/people.json" "$work/gallery.json" "$root/cross" "${start[*]}" <<'PYTHON'
import json, sys
expected, found = ([{key: value for key, value in json.loads(line).items() if key != "timing_us"} for line in open(file)] for file in sys.argv[1:3])
if sys.argv[4]:
    sys.path.insert(0, sys.argv[3])
    import agree
    agree.compare(expected, found, "names", "", {})
else:
    assert len(expected) == 2 and expected == found, "other names or people than the program's"
PYTHON
say "gallery: the program reads the file, and names the same person with the same numbers"
rounds=3000
[ ! "${start[*]}" ] || rounds=200
"${start[@]}" "$work/misuse" $rounds
"${start[@]}" "$work/misuse-static" $((rounds / 10))
say "misuse: a status and a message for each call, $rounds random images"
if [ "${start[*]}" ]; then
    "${start[@]}" "$work/faces" "$photo" >/dev/null
    say "everything under QEMU agrees with the host's program"
    exit
fi
valgrind=(valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,possible)
"${valgrind[@]}" "$work/misuse" 20
mkdir "$work/small" && "${valgrind[@]}" "$work/gallery" "$work/part.png" "$work/small" >/dev/null
"${valgrind[@]}" "$work/use" "$work/part.png" "$work/part.rgb" 256 256 >/dev/null
say "valgrind finds nothing"

"${start[@]}" "$work/faces" "$photo" | tee "$work/faces.txt"
grep -qF "$(cat "$work/faces.txt")" "$root/docs/c.md" || { say "docs/c.md shows another output of faces.c" >&2; exit 1; }
if pkg-config --exists opencv4; then
    read -ra opencv <<<"$(pkg-config --cflags --libs opencv4)"
    "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror "$here/examples/camera.cpp" "-I$out/include" "${libraries[@]}" "${opencv[@]}" -o "$work/camera"
    say "camera.cpp compiles with OpenCV $(pkg-config --modversion opencv4)"
else
    "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror -fsyntax-only "$here/examples/camera.cpp" "-I$out/include" "-I$here/tests/c"
    say "camera.cpp has no error with OpenCV's declarations; OpenCV is not here to link it (apt-get install libopencv-dev)"
fi
