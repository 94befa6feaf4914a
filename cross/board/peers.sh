#!/usr/bin/env bash
# Makes a folder with Python for arm64 and the peers' wheels, in which benches/peers/board.py runs on the virtual board.
#
#     cross/board/peers.sh        prints the folder; does nothing else if it is present
#
# Nothing is installed or run: Debian's packages and PyPI's wheels for arm64 are unpacked into $FACEPTOR_BOARD/peers
# (default ~/.cache/faceptor-board/peers, about 400 MB).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
board=${FACEPTOR_BOARD:-$HOME/.cache/faceptor-board}
out=$board/peers
say() { echo "board: $*" >&2; }

mkdir -p "$board"
exec {lock}>"$board/peers.lock"
flock "$lock"
requirements=$here/../../benches/peers/requirements.txt
recipe=$(cat "$here/peers.sh" "$here/../apt.sh" "$requirements" | sha256sum)
if [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    echo "$out"
    exit 0
fi
work=$(mktemp -d "$board/peers.XXXXXX")
trap 'rm -rf "$work"' EXIT

# shellcheck source=../apt.sh
source "$here/../apt.sh"
say "downloading Python for arm64"
arm64_archives "$work" python3.11 libstdc++6 libgomp1
root=$work/root
mkdir -p "$root"/usr/{bin,sbin,lib} "$root"/{dev,proc,sys,tmp,mnt/host,wheels}
for folder in bin sbin lib; do ln -s "usr/$folder" "$root/$folder"; done
for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
done
rm -rf "$root"/usr/share/{doc,locale,man,info}

say "downloading the peers' wheels for arm64"
platforms=(manylinux2014_aarch64 manylinux_2_17_aarch64 manylinux_2_24_aarch64 manylinux_2_27_aarch64 manylinux_2_28_aarch64)
grep -E '^(MNN|ncnn|numpy|onnxruntime)\b' "$requirements" >"$work/wanted"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: "${platforms[@]/#/--platform=}" \
    --python-version 3.11 --implementation cp --abi cp311 --dest "$work/wheels" --requirement "$work/wanted"
for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/wheels"; done
rm -rf "$out"
mv "$root" "$out"
echo "$recipe" >"$out/recipe"
echo "$out"
