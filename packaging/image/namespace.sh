#!/usr/bin/env bash
# Runs a command as root of a user namespace, with QEMU for arm64 programs: packaging/image/namespace.sh COMMAND...
#
# A user without rights needs a range of numbers in /etc/subuid (adduser gives one) and the package uidmap. Files that the command
# makes belong to numbers of that range; `rm` in a namespace removes them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" -ne 0 ] || [ "$(awk 'NR == 1 {print $3}' /proc/self/uid_map)" != 4294967295 ]; then
    if [ "$(id -u)" -ne 0 ] && ! grep -q "^\($(id -un)\|$(id -u)\):" /etc/subuid; then
        echo "image: $(id -un) has no numbers for a user namespace: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)" >&2
        exit 1
    fi
    # shellcheck disable=SC2016  # for the inner shell
    exec mmdebstrap --unshare-helper sh -c '"$0" && exec "$@"' "$here/binfmt.sh" "$@"
fi
# The real root gets a namespace too, so that the machine's own table of interpreters stays as it is.
ready=$(mktemp -u)
mkfifo "$ready"
unshare --user --kill-child sh -c 'read -r _ <"$0" && rm "$0" && exec "$@"' "$ready" "$0" "$@" &
child=$!
for map in uid gid; do
    # The shell has the namespace once its link differs from this one's.
    until [ "$(readlink /proc/$child/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
    echo '0 0 65536' >/proc/$child/${map}_map
done
echo >"$ready"
wait $child
