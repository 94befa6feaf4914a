#!/usr/bin/env bash
# Makes the image's root file system and what boots it. build.sh runs it as root of a user namespace.
#
#     packaging/image/root.sh BASE INPUTS OUT
#
# BASE: output of base.sh. INPUTS: faceptor.deb (arm64), reference/, picture.yuyv, version, updates.pem. OUT: gets root.squashfs, vmlinuz, initrd,
# systemd-boot.efi, packages.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
base=$1 inputs=$2 out=$3
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
fail() { echo "image: $*" >&2; exit 1; }
# Drivers of devices that no board with a camera has, and of tests: a third of all.
no_drivers=(sound drivers/infiniband drivers/iio drivers/staging drivers/target drivers/isdn drivers/net/ethernet/mellanox drivers/net/ethernet/chelsio
    drivers/net/ethernet/qlogic drivers/net/ethernet/netronome drivers/gpu/drm/nouveau drivers/gpu/drm/amd drivers/gpu/drm/radeon
    drivers/media/dvb-frontends drivers/media/tuners drivers/media/rc/keymaps fs/ocfs2 fs/nfsd fs/xfs fs/gfs2 fs/ceph fs/jfs fs/reiserfs lib/test_bpf.ko)

# On the disk that holds OUT, because of its size.
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
tar -x --numeric-owner -f "$base/base.tar" -C "$root" --exclude './dev/*'

dpkg-deb --fsys-tarfile "$base/linux.deb" | tar -x --keep-directory-symlink -C "$root" ./lib ./boot
kernel=$(basename "$root"/boot/vmlinuz-*)
kernel=${kernel#vmlinuz-}
mv "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"
rm -rf "${root:?}"/boot/*
# dependencies: prints what the drivers of cameras need, as depmod finds it.
dependencies() {
    depmod -b "$root/usr" "$kernel"
    grep -E '/(vivid|uvcvideo)[.]ko:' "$root/usr/lib/modules/$kernel/modules.dep"
}
before=$(dependencies)
for folder in "${no_drivers[@]}"; do rm -rf "$root/usr/lib/modules/$kernel/kernel/$folder"; done
[ "$(dependencies)" = "$before" ] || fail "a driver of cameras needs one of those that were removed"
dpkg-deb --fsys-tarfile "$base/systemd-boot.deb" | tar -x -O ./usr/lib/systemd/boot/efi/systemd-bootaa64.efi >"$out/systemd-boot.efi"

# in_root COMMAND...: runs a program of the root, with devices and processes, in mounts that end with it.
in_root() {
    # shellcheck disable=SC2016  # for the inner shell
    unshare --mount sh -c 'mount --rbind /dev "$0/dev" && mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$@"
}

# Our package, as on any Debian.
cp "$inputs/faceptor.deb" "$root/faceptor.deb"
in_root dpkg --install /faceptor.deb >"$out/dpkg.log" 2>&1 || { cat "$out/dpkg.log" >&2; fail "the package cannot be installed"; }
rm "$root/faceptor.deb"

cp -r --no-preserve=ownership "$here/files/." "$root/"
mkdir -p "$root/data" "$root/usr/share/faceptor-image"
cp -r --no-preserve=ownership "$inputs/reference" "$inputs/picture.yuyv" "$inputs/updates.pem" "$root/usr/share/faceptor-image/"
cp "$inputs/version" "$root/usr/lib/faceptor-image/version"
install -m 644 "$here/../debian/preview.conf" "$root/etc/systemd/system/faceptor.service.d/"
# The preview page of a fresh board is on its loopback address: `ssh -L` brings it to a browser.
sed -i 's/^# preview = .*/preview = "127.0.0.1:8080"/' "$root/etc/faceptor/faceptor.toml"
grep -q '^preview = ' "$root/etc/faceptor/faceptor.toml" || fail "faceptor.toml has no line for the preview"
in_root faceptor config check >/dev/null || fail "the image's configuration is wrong"

# Each board makes its own name, number and keys; no account has a password.
: >"$root/etc/hostname"
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
in_root usermod --password '*' root
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
# The initrd mounts everything.
: >"$root/etc/fstab"
mkdir -p "$root/var/log/journal"
in_root systemctl enable --quiet systemd-networkd systemd-resolved systemd-timesyncd ssh faceptor faceptor-setup faceptor-test-camera \
    faceptor-report.timer faceptor-boot-entries faceptor-mark-good faceptor-trial-end.timer
in_root systemctl disable --quiet systemd-networkd-wait-online.service wpa_supplicant.service e2scrub_reap.service \
    dpkg-db-backup.timer 2>/dev/null || true
in_root systemctl mask --quiet systemd-firstboot.service getty@tty1.service serial-getty@.service
in_root systemctl set-default --quiet multi-user.target
{
    in_root dpkg-query --show --showformat '${Package} ${Version}\n'
    for deb in linux systemd-boot; do echo "$(dpkg-deb -f "$base/$deb.deb" Package) $(dpkg-deb -f "$base/$deb.deb" Version)"; done
} | sort >"$out/packages.txt"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/var/log/*.log "$root"/var/log/apt "$root"/usr/lib/udev/hwdb.bin.* "$root"/run/* "$root"/tmp/*
rm -rf "$root"/usr/share/{zsh,fish,lintian,bug}

"$here/initrd.sh" "$root" "$kernel" "$out/initrd"
env -u SOURCE_DATE_EPOCH mksquashfs "$root" "$out/root.squashfs" -noappend -quiet -no-progress -comp zstd -Xcompression-level 8 -b 256K -all-time "${SOURCE_DATE_EPOCH:-0}" \
    -mkfs-time "${SOURCE_DATE_EPOCH:-0}" >"$out/squashfs.log" 2>&1 || { cat "$out/squashfs.log" >&2; fail "mksquashfs failed"; }
chmod 644 "$out"/{root.squashfs,vmlinuz,initrd,systemd-boot.efi,packages.txt}
