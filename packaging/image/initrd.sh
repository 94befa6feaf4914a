#!/usr/bin/env bash
# Makes the initrd of the image from its own root: no file of the build machine gets into it.
#
#     packaging/image/initrd.sh ROOT KERNEL OUT       ROOT: folder; KERNEL: version, with drivers in ROOT/usr/lib/modules
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$1 kernel=$2 out=$3
PATH=$PATH:/usr/sbin:/sbin
fail() { echo "image: $*" >&2; exit 1; }
libraries=/usr/lib/aarch64-linux-gnu

# busybox has no counterpart of these, or one that knows no partition's UUID.
programs=(sbin/veritysetup sbin/sfdisk sbin/e2fsck sbin/findfs bin/kmod)
# Folders with drivers of disks and of what a disk is attached to.
folders=(drivers/ata drivers/block drivers/nvme drivers/mmc drivers/scsi drivers/usb/storage drivers/usb/host drivers/usb/dwc2 drivers/usb/dwc3
    drivers/usb/chipidea drivers/usb/musb drivers/usb/phy drivers/usb/common drivers/pci drivers/phy drivers/clk drivers/regulator drivers/reset
    drivers/mfd drivers/pinctrl drivers/gpio drivers/i2c/busses drivers/dma drivers/virtio drivers/firmware drivers/soc drivers/iommu drivers/bus
    drivers/interconnect drivers/power/reset drivers/hv drivers/watchdog)
modules=(dm-verity squashfs overlay ext4 vfat efivarfs nls_ascii nls_cp437 crc32c sha256-ce sha256_generic sha256_arm64 uas sd_mod)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree"/{bin,sbin,usr/lib,tmp}
ln -s usr/lib "$tree/lib"
install -m 755 "$root/usr/bin/busybox" "$tree/bin/busybox" 2>/dev/null || install -m 755 "$root/bin/busybox" "$tree/bin/busybox"
install -m 755 "$here/initrd/init" "$tree/init"

# with_libraries FILE: copies what FILE is linked with, and what that is linked with.
with_libraries() {
    local name
    for name in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        case $name in ld-linux*) continue ;; esac
        [ ! -e "$tree$libraries/$name" ] || continue
        [ -e "$root$libraries/$name" ] || fail "$1 needs $name, which the image's root has not"
        install -D -m 755 "$root$libraries/$name" "$tree$libraries/$name"
        with_libraries "$root$libraries/$name"
    done
}
for program in "${programs[@]}"; do
    install -D -m 755 "$root/$program" "$tree/$program"
    with_libraries "$root/$program"
done
install -m 755 "$root/usr/lib/ld-linux-aarch64.so.1" "$tree/usr/lib/" 2>/dev/null ||
    install -m 755 "$root$libraries/ld-linux-aarch64.so.1" "$tree/usr/lib/"
ln -s ../bin/kmod "$tree/sbin/modprobe"
# glibc loads it when a thread is cancelled, as libcryptsetup's are.
install -m 755 "$root$libraries/libgcc_s.so.1" "$tree$libraries/"

from=$root/usr/lib/modules/$kernel
to=$tree/usr/lib/modules/$kernel
mkdir -p "$to"
cp "$from"/modules.{builtin,builtin.modinfo,order} "$to/"
{
    for folder in "${folders[@]}"; do [ ! -d "$from/kernel/$folder" ] || find "$from/kernel/$folder" -name '*.ko' -printf '%f\n'; done
    printf '%s\n' "${modules[@]}"
} | sed 's/[.]ko$//' | sort -u | while read -r module; do
    modprobe -d "$root/usr" -S "$kernel" --show-depends "$module" 2>/dev/null || true
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u >"$work/list"
while read -r module; do
    copy=$to/${module#*"/modules/$kernel/"}
    mkdir -p "$(dirname "$copy")"
    cp "$module" "$copy"
done <"$work/list"
for module in dm-verity squashfs overlay ext4 efivarfs virtio_blk nvme; do
    grep -q "/${module}[.]ko" "$work/list" || fail "kernel $kernel has no driver $module"
done
depmod -b "$tree" "$kernel"
(cd "$tree" && find . -print0 | LC_ALL=C sort -z | cpio --null -o -H newc -R 0:0 --quiet --reproducible) | zstd -q -9 -T0 >"$out"
