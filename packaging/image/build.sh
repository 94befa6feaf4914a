#!/usr/bin/env bash
# Makes the image: a GPT disk for any arm64 machine with UEFI, of Debian 12 packages and ours. Needs no root. `make image` calls it.
#
#     packaging/image/build.sh --package DEB --program FILE --out DIR
#
# DEB: our package for arm64. FILE: the program for this machine, which makes the reference that the board compares itself with.
# Writes DIR/faceptor-VERSION-arm64.img (a file with holes) and .packages.txt. The first run downloads from Debian
# (base.sh) and takes some minutes, later ones about one. Boards with the image take updates that are signed with the keys of keys.sh.
# docs/image.md describes the image.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
limit_bytes=350000000
PATH=$PATH:/usr/sbin:/sbin
fail() { echo "image: $*" >&2; exit 1; }
say() { echo "image: $*" >&2; }

package='' program='' out=''
while [ $# -gt 0 ]; do
    case $1 in
        --package) package=$2; shift 2 ;;
        --program) program=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) fail "what is '$1'? See the head of $0" ;;
    esac
done
[ -n "$package" ] && [ -n "$program" ] && [ -n "$out" ] || fail "arguments: --package DEB --program FILE --out DIR"
[ -f "$package" ] || fail "$package is missing: run 'make deb'"
[ "$(dpkg-deb -f "$package" Architecture)" = arm64 ] || fail "$package is not for arm64"

declare -A provides=([mmdebstrap]=mmdebstrap [uidmap]=newuidmap [qemu-user-static]=qemu-aarch64-static [squashfs-tools]=mksquashfs [mtools]=mcopy
    [dosfstools]=mkfs.vfat [e2fsprogs]=mke2fs [fdisk]=sfdisk [cryptsetup-bin]=veritysetup [libjpeg-turbo-progs]=djpeg [cpio]=cpio [zstd]=zstd
    [kmod]=depmod [openssl]=openssl)
missing=()
for name in "${!provides[@]}"; do
    command -v "${provides[$name]}" >/dev/null || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] || "$root/.ci/install" "${missing[@]}"

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
base=$("$here/base.sh")
mkdir -p "$out"
out=$(realpath "$out")
version=$(dpkg-deb -f "$package" Version)
# In /var/tmp, because /tmp may be memory.
work=$(mktemp -d /var/tmp/faceptor-image.XXXXXX)
trap '"$here/namespace.sh" rm -rf "$work/root" || true; rm -rf "$work"' EXIT
chmod 755 "$work"

mkdir "$work/inputs"
mkdir -m 777 "$work/root"
cp "$package" "$work/inputs/faceptor.deb"
release="$version $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d)"
echo "$release" >"$work/inputs/version"
say "the reference of this machine"
"$program" reference --out "$work/inputs/reference" --pictures 1 --frames 10 --warm-up 1 --tasks all >/dev/null
djpeg "$root/models/demo/astronaut.jpg" | "$here/picture.py" >"$work/inputs/picture.yuyv"
cp "$("$here/keys.sh")/ca.pem" "$work/inputs/updates.pem"
chmod -R a+rX "$work/inputs"

say "the root file system"
"$here/namespace.sh" "$here/root.sh" "$base" "$work/inputs" "$work/root"
cp "$work"/root/{root.squashfs,vmlinuz,initrd,systemd-boot.efi,packages.txt} "$work/"

# dm-verity: the tree of hashes follows the file system in the same partition; the boot partition holds the tree's root.
content=$(stat -c %s "$work/root.squashfs")
offset=$(((content + 4095) / 4096 * 4096))
truncate -s "$offset" "$work/root.squashfs"
salt=$(sha256sum <"$work/root.squashfs" | cut -c1-64)
# id NAME: the same content gives the same identifiers.
id() {
    local sum
    sum=$(sha256sum <<<"$salt $1")
    echo "${sum:0:8}-${sum:8:4}-5${sum:13:3}-a${sum:17:3}-${sum:20:12}"
}
hash=$(veritysetup format "$work/root.squashfs" "$work/root.squashfs" --hash-offset "$offset" --data-blocks $((offset / 4096)) --salt "$salt" \
    --uuid "$(id verity)" | sed -n 's/^Root hash:[[:space:]]*//p')
[ ${#hash} -eq 64 ] || fail "veritysetup gave no root hash"

# Sizes in MiB: updates need room to grow.
declare -A size=([settings]=64 [boot]=96 [root]=256 [data]=64)
[ "$(stat -c %s "$work/root.squashfs")" -le $((size[root] << 20)) ] || fail "the root has $(stat -c %s "$work/root.squashfs") bytes, its partition ${size[root]} MiB"

fat() { # FILE LABEL MIB
    truncate -s "$3M" "$1"
    mkfs.vfat -F 32 -s 1 -n "$2" -i "$(sha256sum <<<"$salt $2" | cut -c1-8)" "$1" >/dev/null
}
fat "$work/boot.img" BOOT "${size[boot]}"
mmd -i "$work/boot.img" ::EFI ::EFI/BOOT ::loader ::loader/entries ::faceptor
mcopy -i "$work/boot.img" "$work/systemd-boot.efi" ::EFI/BOOT/BOOTAA64.EFI
mcopy -i "$work/boot.img" "$work/vmlinuz" "$work/initrd" ::faceptor/
printf 'timeout 0\neditor no\n' | mcopy -i "$work/boot.img" - ::loader/loader.conf
cat >"$work/entry.conf" <<CONF
title Faceptor $release
linux /faceptor/vmlinuz
initrd /faceptor/initrd
options ro quiet panic=10 systemd.gpt_auto=0 faceptor.version=${release/ /,} faceptor.verity=$hash,$offset
CONF
mcopy -i "$work/boot.img" "$work/entry.conf" ::loader/entries/faceptor.conf

fat "$work/settings.img" FACEPTOR "${size[settings]}"
mmd -i "$work/settings.img" ::faceptor
sed 's/$/\r/' "$here/settings.txt" | mcopy -i "$work/settings.img" - ::faceptor/README.txt

mkdir "$work/data"
# Room for descriptors of 1 TiB, so that the file system can grow while it is mounted.
mke2fs -q -t ext4 -L faceptor-data -b 4096 -J size=16 -E "resize=268435456,hash_seed=$(id seed),root_owner=0:0" -U "$(id ext4)" -d "$work/data" \
    "$work/data.img" "${size[data]}M"

image=$out/faceptor-$version-arm64.img
rm -f "$image.new"
first=1
offsets=()
table="label: gpt"$'\n'"label-id: $(id disk)"$'\n'
partition() { # NAME MIB TYPE
    table+="start=${first}MiB, size=$2MiB, name=$1, uuid=$(id "$1"), type=$3"$'\n'
    offsets+=("$first")
    first=$((first + $2))
}
esp=C12A7328-F81F-11D2-BA4B-00A0C93EC93B linux=0FC63DAF-8483-4772-8E79-3D69D8477DE4
# Windows shows no other type. Slot B has no type that firmware searches by itself.
partition settings "${size[settings]}" EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
partition boot-a "${size[boot]}" $esp
partition boot-b "${size[boot]}" $linux
partition root-a "${size[root]}" $linux
partition root-b "${size[root]}" $linux
partition data "${size[data]}" $linux
truncate -s "$((first + 1))M" "$image.new"
printf '%s' "$table" | sfdisk --quiet "$image.new"
write() { dd if="$1" of="$image.new" bs=1M seek="$2" conv=notrunc,sparse status=none; }
write "$work/settings.img" "${offsets[0]}"
write "$work/boot.img" "${offsets[1]}"
write "$work/root.squashfs" "${offsets[3]}"
write "$work/data.img" "${offsets[5]}"
occupied=$(($(stat -c '%b * %B' "$image.new")))
[ "$occupied" -lt $limit_bytes ] || fail "the image occupies $occupied bytes, limit $limit_bytes"
rm -f "$out"/faceptor-*-arm64.img
mv "$image.new" "$image"
cp "$work/packages.txt" "${image%.img}.packages.txt"
echo "image: $image: $occupied bytes to write, $(stat -c %s "$image") on the disk; $(wc -l <"$work/packages.txt") packages, root $(stat -c %s "$work/root.squashfs") bytes"
