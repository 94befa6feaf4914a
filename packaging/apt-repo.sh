#!/usr/bin/env bash
# Makes a signed apt repository of packages: plain files, for any web server or a USB stick. `make apt-repo`.
#
#     packaging/apt-repo.sh --out DIR PACKAGE.deb...
#
#     APT_KEY     fingerprint or address of the key in gpg's keyring that signs; without it, a key is made that exists only for
#                 this repository: good for a test
#
# Output, replaced whole: pool/ (packages), dists/stable/ (indexes, signed), faceptor-archive-keyring.asc (the public key).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "apt-repo: $*" >&2; exit 1; }

out='' packages=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift 2 ;;
        *.deb) packages+=("$(realpath "$1")"); shift ;;
        *) fail "what is '$1'? See the head of $0" ;;
    esac
done
[ -n "$out" ] && [ ${#packages[@]} -gt 0 ] || fail "arguments: --out DIR PACKAGE.deb..."

declare -A provides=([apt-utils]=apt-ftparchive [gnupg]=gpg)
missing=()
for package in "${!provides[@]}"; do
    command -v "${provides[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || "$root/.ci/install" "${missing[@]}"

out=$(realpath -m "$out")
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ] && [ ! -f "$out/dists/stable/Release" ]; then
    fail "$out holds other files than an apt repository: name a new folder"
fi
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
home=''
trap 'rm -rf "$work"; [ -z "$home" ] || { GNUPGHOME=$home gpgconf --kill all; rm -rf "$home"; }' EXIT
chmod 755 "$work"

key=${APT_KEY:-}
if [ -z "$key" ]; then
    home=$(mktemp -d)
    export GNUPGHOME=$home
    key='Faceptor Edge, a key for tests'
    gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key "$key" ed25519 sign 1y
    echo "apt-repo: signed with a key made for this repository alone; APT_KEY=FINGERPRINT takes yours"
fi
gpg --armor --export "$key" >"$work/faceptor-archive-keyring.asc"
[ -s "$work/faceptor-archive-keyring.asc" ] || fail "gpg has no key '$key'"

cd "$work"
mkdir -p pool/main/f/faceptor
cp "${packages[@]}" pool/main/f/faceptor/
architectures=()
for arch in amd64 arm64; do
    compgen -G "pool/main/f/faceptor/*_$arch.deb" >/dev/null || continue
    architectures+=("$arch")
    index=dists/stable/main/binary-$arch
    mkdir -p "$index"
    apt-ftparchive --arch "$arch" packages pool >"$index/Packages"
    gzip -9 --keep --no-name "$index/Packages"
done
[ ${#architectures[@]} -gt 0 ] || fail "no package is for amd64 or arm64"
apt-ftparchive -o APT::FTPArchive::Release::Origin=Faceptor -o APT::FTPArchive::Release::Label=Faceptor \
    -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
    -o APT::FTPArchive::Release::Components=main -o APT::FTPArchive::Release::Architectures="${architectures[*]}" \
    release dists/stable >Release
mv Release dists/stable/Release
sign=(gpg --batch --yes --quiet --local-user "$key")
"${sign[@]}" --clearsign --output dists/stable/InRelease dists/stable/Release
"${sign[@]}" --armor --detach-sign --output dists/stable/Release.gpg dists/stable/Release
rm -rf "$out"
mv "$work" "$out"
echo "apt-repo: $out: $(ls "$out/pool/main/f/faceptor" | wc -l) packages for ${architectures[*]}"
