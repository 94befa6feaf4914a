#!/usr/bin/env bash
# Tests the Debian packages: lintian, and the amd64 package in a clean Debian root (not booted). `make deb-test` calls it.
#
#     packaging/test.sh --packages DIR --manual DIR --program FILE
#
# DIR of --packages: output of deb.sh; --manual and --program (amd64): its inputs, from which an older version is made to upgrade
# from. Root is needed for the chroot. The clean root is kept in ~/.cache/faceptor-packages (FACEPTOR_ROOTS).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
roots=${FACEPTOR_ROOTS:-$HOME/.cache/faceptor-packages}
fail() { echo "deb-test: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || exec sudo -E "$0" "$@"

packages='' manual='' program=''
while [ $# -gt 0 ]; do
    case $1 in
        --packages) packages=$(realpath "$2"); shift 2 ;;
        --manual) manual=$(realpath "$2"); shift 2 ;;
        --program) program=$(realpath "$2"); shift 2 ;;
        *) fail "what is '$1'? See the head of $0" ;;
    esac
done
[ -n "$packages" ] && [ -n "$manual" ] && [ -n "$program" ] || fail "arguments: --packages DIR --manual DIR --program FILE"
new=("$packages"/faceptor_*_amd64.deb)
[ ${#new[@]} -eq 1 ] && [ -f "${new[0]}" ] || fail "$packages holds ${#new[@]} packages for amd64, not one: run 'make deb'"

declare -A provides=([lintian]=lintian [mmdebstrap]=mmdebstrap [apt-utils]=apt-ftparchive [gnupg]=gpg)
missing=()
for package in "${!provides[@]}"; do
    command -v "${provides[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || "$root/.ci/install" "${missing[@]}"

lintian --fail-on error,warning "$packages"/*.deb
echo "passed: lintian has no errors and no warnings"

work=$(mktemp -d)
clean=$work/root
trap 'umount -q "$clean/proc" || true; rm -rf --one-file-system "$work"' EXIT
mkdir -p "$roots"
base=$roots/bookworm-amd64.tar
if [ ! -f "$base" ]; then
    echo "deb-test: making a clean Debian root in $base"
    mmdebstrap --quiet --format=tar --mode=root --variant=minbase --include=systemd,udev,man-db bookworm "$base.new" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; fail "mmdebstrap failed"; }
    rm -rf --one-file-system "$base"
    mv "$base.new" "$base"
fi
mkdir "$clean"
tar -x --numeric-owner -f "$base" -C "$clean"

# An older version with another configuration file, so that an upgrade has something to keep.
cp -r "$manual" "$work/manual"
echo '# The end of the older configuration.' >>"$work/manual/faceptor.toml"
version=$(dpkg-deb -f "${new[0]}" Version)
PACKAGE_VERSION=$version~older PACKAGE_COMPRESSION='gzip -z1' "$here/deb.sh" --manual "$work/manual" --out "$work/older" "amd64=$program"
"$here/apt-repo.sh" --out "$clean/repo" "$packages"/*.deb "$work/older"/*.deb
"$here/apt-repo.sh" --out "$clean/foreign" "${new[0]}"
cp "$here/inside/clean-root.sh" "$clean/root/"
mount -t proc proc "$clean/proc"
chroot "$clean" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OLD="$version~older" NEW="$version" sh /root/clean-root.sh
echo "deb-test: all steps passed"
