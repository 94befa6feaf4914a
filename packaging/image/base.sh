#!/usr/bin/env bash
# Makes what the image takes from Debian 12 for arm64, without root: packages with their configuration, kernel, boot loader.
#
#     packaging/image/base.sh        prints the folder of the results; makes nothing if they are present
#     FACEPTOR_IMAGE_CACHE=DIR       default ~/.cache/faceptor-image; without the folder `base` in it, Debian's newest packages are taken
#
# Results: base.tar (the root file system), linux.deb, systemd-boot.deb, recipe.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
store=${FACEPTOR_IMAGE_CACHE:-$HOME/.cache/faceptor-image}
out=$store/base
say() { echo "image: $*" >&2; }

packages=(systemd-sysv systemd-timesyncd systemd-resolved udev dbus kmod openssh-server iproute2 procps e2fsprogs fdisk dosfstools
    cryptsetup-bin busybox-static v4l-utils apparmor wpasupplicant rauc rauc-service efibootmgr curl ca-certificates)
# Pages for people are read elsewhere; licences stay.
leave_out=(--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*'
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright')

mkdir -p "$store"
exec {lock}>"$store/base.lock"
flock "$lock"
recipe=$(cat "$here/base.sh" "$here/binfmt.sh" | sha256sum)
if [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    echo "$out"
    exit 0
fi
work=$(mktemp -d "$store/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The namespace's users must reach it.
chmod 755 "$work"

keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keys ] || { say "Debian's keys are missing: install debian-archive-keyring"; exit 1; }
printf 'deb [signed-by=%s] http://deb.debian.org/%s main\n' \
    $keys 'debian bookworm' $keys 'debian bookworm-updates' $keys 'debian-security bookworm-security' >"$work/sources.list"

say "downloading the kernel"
# shellcheck source=../../cross/apt.sh
source "$here/../../cross/apt.sh"
private_apt "$work/apt" "$work/sources.list"
kernel=$("${cache[@]}" show --no-all-versions linux-image-arm64:arm64 | sed -n 's/^Depends: linux-image-\([^ ,]*\).*/\1/p')
[ -n "$kernel" ] || { say "linux-image-arm64 names no kernel"; exit 1; }
mkdir "$work/base"
(cd "$work/base" && "${apt[@]}" download "linux-image-$kernel:arm64" systemd-boot-efi:arm64) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mv "$work/base"/linux-image-*.deb "$work/base/linux.deb"
mv "$work/base"/systemd-boot-efi_*.deb "$work/base/systemd-boot.deb"

say "installing ${#packages[@]} packages and what they need, by emulation (some minutes)"
include=$(printf ',%s' "${packages[@]}")
command=(mmdebstrap --mode=unshare --skip=check/qemu --setup-hook="$here/binfmt.sh" --variant=essential --architectures=arm64
    "${leave_out[@]}" --include="${include#,}" bookworm "$work/base/base.tar" "$work/sources.list")
[ "$(id -u)" -ne 0 ] || command=("$here/namespace.sh" "${command[@]}")
"${command[@]}" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; say "mmdebstrap failed"; exit 1; }
echo "$recipe" >"$work/base/recipe"
rm -rf "$out"
mv "$work/base" "$out"
say "ready in $out: $(stat -c %s "$out/base.tar") bytes, Linux ${kernel%-arm64}"
echo "$out"
