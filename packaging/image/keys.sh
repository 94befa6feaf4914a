#!/usr/bin/env bash
# Makes the keys that sign system updates, where they are missing, and prints their folder. `make image-keys` calls it.
#
#     FACEPTOR_IMAGE_KEYS=DIR       default ~/.config/faceptor/image-keys, never in the project
#
# ca.pem goes into every image: its boards install only what a certificate of this authority signed. ca.key signs certificates,
# and can be kept away from the machine that builds. update.pem and update.key sign bundles. A board whose image holds another ca.pem
# takes no update of yours: keep a copy of the folder.
set -euo pipefail
folder=${FACEPTOR_IMAGE_KEYS:-$HOME/.config/faceptor/image-keys}
here=$(cd "$(dirname "$0")" && pwd)
case $(realpath -m "$folder")/ in
    "$(realpath "$here/../..")"/*) echo "image-keys: $folder is inside the project: private keys do not belong there" >&2; exit 1 ;;
esac
if [ ! -s "$folder/ca.pem" ]; then
    umask 077
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # Boards outlive certificates: they ask for the state of things when a bundle was signed, not for today's.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/O=Faceptor/CN=System updates" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=Faceptor/CN=System update 1" -keyout "$work/update.key" \
        -out "$work/update.csr" 2>/dev/null
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' >"$work/extensions"
    openssl x509 -req -in "$work/update.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3650 -extfile "$work/extensions" \
        -out "$work/update.pem" 2>/dev/null
    mv "$work"/{ca.key,update.key,update.pem} "$folder/"
    # Last: the folder is complete with it.
    mv "$work/ca.pem" "$folder/"
    echo "image-keys: made in $folder; keep a copy, and keep it secret" >&2
fi
echo "$folder"
