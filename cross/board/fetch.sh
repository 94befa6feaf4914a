#!/usr/bin/env bash
# Fetches the virtual board's parts from Debian's packages and builds its initrd. Nothing is installed.
#
#     cross/board/fetch.sh        does nothing, and prints nothing, if everything is present
#     FACEPTOR_BOARD=DIR          where the parts are kept (default ~/.cache/faceptor-board)
#
# Output: vmlinuz (Debian 12's arm64 kernel), initrd.gz (busybox, v4l-utils, an ssh server, the drivers that the
# scenarios need). v4l2loopback, a camera that a program feeds, is compiled from source for that kernel.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
board=${FACEPTOR_BOARD:-$HOME/.cache/faceptor-board}
say() { echo "board: $*" >&2; }
# depmod and modprobe are in folders that are not in PATH for users other than root.
PATH=$PATH:/usr/sbin:/sbin

# Programs of the board, and their libraries.
programs=(busybox-static v4l-utils dropbear-bin)
libraries=(libc6 libgcc-s1 libstdc++6 libv4l-0 libv4l2rds0 libv4lconvert0 libjpeg62-turbo libudev1
    libtomcrypt1 libtommath1 libgmp10 zlib1g libcrypt1)
# Drivers: cameras made of software, the display, the network and the folder shared with the host.
drivers=(vivid v4l2loopback virtio_pci virtio_gpu virtio_net virtio_rng 9pnet_virtio 9p)

# One process at a time; the existing files are reused while the recipe's text is the same.
mkdir -p "$board"
exec {lock}>"$board/fetch.lock"
flock "$lock"
recipe=$(cat "$here/fetch.sh" "$here/init" "$here/../apt.sh" | sha256sum)
[ "$(cat "$board/recipe" 2>/dev/null)" != "$recipe" ] || exit 0

work=$(mktemp -d "$board/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck source=../apt.sh
source "$here/../apt.sh"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keys ] || { say "Debian's keys are missing: install debian-archive-keyring"; exit 1; }
printf 'deb [signed-by=%s] http://deb.debian.org/%s main\n' \
    $keys 'debian bookworm' $keys 'debian bookworm-updates' $keys 'debian-security bookworm-security' >"$work/sources.list"
say "reading Debian's package lists"
private_apt "$work" "$work/sources.list"
kernel=$("${cache[@]}" show --no-all-versions linux-image-arm64:arm64 | sed -n 's/^Depends: linux-image-\([^ ,]*\).*/\1/p')
[ -n "$kernel" ] || { say "linux-image-arm64 names no kernel"; exit 1; }
say "downloading kernel $kernel and ${programs[*]} for arm64"
for_host=("linux-headers-${kernel%-arm64}-common" "linux-kbuild-${kernel%%.0-*}" v4l2loopback-dkms)
for_board=("${programs[@]}" "${libraries[@]}" "linux-image-$kernel" "linux-headers-$kernel")
mkdir "$work/debs"
(cd "$work/debs" && "${apt[@]}" download "${for_host[@]}" "${for_board[@]/%/:arm64}" >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
unpack() { # NAME FOLDER
    local found=("$work/debs/$1"_*.deb)
    dpkg-deb -x "${found[0]}" "$work/$2"
}
for package in "${programs[@]}" "${libraries[@]}"; do unpack "$package" user; done
for package in "${for_host[@]}" "linux-headers-$kernel"; do unpack "$package" headers; done
unpack "linux-image-$kernel" kernel
modules=$work/kernel/lib/modules/$kernel

say "compiling v4l2loopback for $kernel"
build=$work/headers/usr/src/linux-headers-$kernel
# Debian's makefile refers to the common headers by their installed paths.
sed -i "s#include /usr/src#include $work/headers/usr/src#" "$build/Makefile"
loopback=("$work"/headers/usr/src/v4l2loopback-*)
echo 'obj-m := v4l2loopback.o' >"${loopback[0]}/Kbuild"
make -C "$build" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- M="${loopback[0]}" modules >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir "$modules/extra"
cp "${loopback[0]}/v4l2loopback.ko" "$modules/extra/"
depmod -b "$work/kernel" "$kernel"

say "making the initrd"
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,etc,root,mnt/host,usr/bin,"lib/modules/$kernel"}
cp "$work/user/bin/busybox" "$root/bin/"
cp "$work/user/usr/bin/v4l2-ctl" "$work/user/usr/sbin/dropbear" "$root/usr/bin/"
# Only the shared objects, and the loader at the path that the programs use.
find "$work/user" -path '*/aarch64-linux-gnu/*' -name '*.so*' -not -path '*/gconv/*' -not -path '*/libv4l/*' \
    -exec cp -a -t "$root/lib" {} +
cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$kernel/"
for driver in "${drivers[@]}"; do
    modprobe -d "$work/kernel" -S "$kernel" --show-depends "$driver" || { say "kernel $kernel has no driver $driver"; exit 1; }
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u | while read -r module; do
    copy=$root/${module#"$work/kernel"}
    mkdir -p "$(dirname "$copy")"
    aarch64-linux-gnu-strip --strip-debug -o "$copy" "$module"
done
depmod -b "$root" "$kernel"
install -m 755 "$here/init" "$root/init"
(cd "$root" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/initrd.gz"
mv "$work/kernel/boot/vmlinuz-$kernel" "$board/vmlinuz"
mv "$work/initrd.gz" "$board/initrd.gz"
echo "$recipe" >"$board/recipe"
say "ready in $board: kernel $kernel, $(du -ch "$board/vmlinuz" "$board/initrd.gz" | tail -n 1 | cut -f1)"
