#!/usr/bin/env bash
# Makes the root of a Debian 12 for arm64 with systemd, for the virtual board: root.tar and an initrd that boots it.
#
#     packaging/board/root.sh          does nothing, and prints nothing, if both are present
#
# Kernel and drivers are those of cross/board/fetch.sh, which runs first. The packages are unpacked and entered in dpkg's
# database, but not configured, so neither root nor emulation is needed here. Output in $FACEPTOR_BOARD/systemd
# (default ~/.cache/faceptor-board/systemd): root.tar, vmlinuz, initrd.gz.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cross=$here/../../cross
board=${FACEPTOR_BOARD:-$HOME/.cache/faceptor-board}
out=$board/systemd
say() { echo "board: $*" >&2; }

packages=(systemd-sysv systemd udev kmod base-files base-passwd bash dash coreutils util-linux mount dpkg init-system-helpers passwd
    login libc-bin grep sed mawk findutils diffutils tar gzip procps hostname libgcc-s1 apparmor)

mkdir -p "$out"
exec {lock}>"$out/root.lock"
flock "$lock"
recipe=$(cat "$here/root.sh" "$here/init" "$board/recipe" | sha256sum)
[ "$(cat "$out/recipe" 2>/dev/null)" != "$recipe" ] || exit 0
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# shellcheck source=../../cross/apt.sh
source "$cross/apt.sh"
say "downloading systemd and what it needs for arm64"
arm64_archives "$work" "${packages[@]}"

say "unpacking"
root=$work/root
mkdir -p "$root"/usr/{bin,sbin,lib} "$root"/{dev,proc,sys,run,tmp,root,home,mnt/host,etc,var/lib/dpkg/info,var/lib/dpkg/updates,var/lib/dpkg/triggers}
for folder in bin sbin lib; do ln -s "usr/$folder" "$root/$folder"; done
for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
    name=$(dpkg-deb -f "$deb" Package)
    dpkg-deb -f "$deb" | sed '1a Status: install ok installed' >>"$root/var/lib/dpkg/status"
    echo >>"$root/var/lib/dpkg/status"
    [ "$(dpkg-deb -f "$deb" Multi-Arch)" != same ] || name=$name:arm64
    : >"$root/var/lib/dpkg/info/$name.list"
done
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
install -m 600 /dev/null "$root/etc/shadow"
: >"$root/etc/machine-id"
echo board >"$root/etc/hostname"
rm -rf "$root"/usr/share/{doc,locale,info} "$root"/usr/lib/udev/hwdb.*
mkdir "$work/initrd"
(cd "$work/initrd" && zcat "$board/initrd.gz" | cpio -idm --quiet --no-preserve-owner 2>/dev/null)
cp -r "$work/initrd/lib/modules" "$root/usr/lib/"

install -m 644 "$here/board-test.service" "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../board-test.service "$root/etc/systemd/system/multi-user.target.wants/"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
# The console belongs to the host's script.
ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyAMA0.service"
tar -c --owner=0 --group=0 --numeric-owner -C "$root" . >"$out/root.tar"

# A later archive of an initrd replaces files of an earlier one.
mkdir "$work/later"
install -m 755 "$here/init" "$work/later/init"
(cd "$work/later" && echo init | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/later.gz"
cat "$board/initrd.gz" "$work/later.gz" >"$out/initrd.gz"
cp "$board/vmlinuz" "$out/vmlinuz"
echo "$recipe" >"$out/recipe"
say "ready in $out: $(stat -c %s "$out/root.tar") bytes of root"
