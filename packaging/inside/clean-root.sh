#!/bin/sh
# Installs, upgrades, removes and purges the package in a clean Debian root. test.sh starts it there, with the repository in /repo,
# one that another key signed in /foreign, and the versions OLD and NEW in the environment. Nothing else is reachable.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
fail() { echo "FAILED: $*"; exit 1; }
passed() { echo "passed: $*"; }
# A line of a list that is absent or present.
has() { grep -qF -- "$2" "$1" || { cat "$1"; fail "no '$2' in $1"; }; }
apt() { apt-get -q -o Dpkg::Options::=--force-confold "$@" >/tmp/apt.log 2>&1; }
source_of() { echo "deb [signed-by=/repo/faceptor-archive-keyring.asc] file:$1 stable main" >/etc/apt/sources.list; }

rm -rf /etc/apt/sources.list.d/*
source_of /foreign
apt update && fail "a repository signed by another key was accepted"
has /tmp/apt.log "not available"
source_of /repo
apt update || { cat /tmp/apt.log; fail "the signed repository was refused"; }
passed "the repository's signature is checked"

apt install -y "faceptor=$OLD" || { cat /tmp/apt.log; fail "installation"; }
[ "$(dpkg-query -W -f '${Status}' faceptor)" = "install ok installed" ] || fail "the package is not installed"
dpkg --verify faceptor >/tmp/verify
[ ! -s /tmp/verify ] || { cat /tmp/verify; fail "installed files differ from the package's"; }
getent passwd faceptor >/tmp/user || fail "there is no user faceptor"
has /tmp/user "/usr/sbin/nologin"
[ "$(id -u faceptor)" -lt 1000 ] || fail "the user faceptor is not a system user"
id -nG faceptor | grep -qw video || fail "the user faceptor is not in the group video"
[ "$(stat -c '%U %G %a' /var/lib/faceptor)" = "faceptor faceptor 750" ] || fail "others can read /var/lib/faceptor"
[ "$(stat -c '%U %G %a' /var/lib/faceptor-bundles)" = "root root 755" ] || fail "the service can write to /var/lib/faceptor-bundles"
[ "$(stat -c '%U %a' /etc/faceptor/faceptor.toml)" = "root 644" ] || fail "the configuration is not root's"
find /etc/systemd/system -name '*faceptor*' >/tmp/enabled
[ ! -s /tmp/enabled ] || { cat /tmp/enabled; fail "installing enabled a service"; }
passed "installed: files, user, folders; no service enabled"

faceptor --version >/tmp/version
faceptor config check >/tmp/check || { cat /tmp/check; fail "the configuration that is installed is refused"; }
has /tmp/check "--source=/dev/video0"
faceptor run --source demo --tasks age --frames 2 --json >/tmp/faces 2>/tmp/log || fail "the program does not run"
has /tmp/faces '"age"'
passed "the program runs, and takes its configuration: $(cat /tmp/version)"

pages=$(dpkg -L faceptor | grep '/man1/.*[.]1[.]gz$')
# Each verb of --help has a page.
for verb in $(faceptor --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    [ "$verb" = help ] || man -w "faceptor-$verb" >/dev/null || fail "no manual page faceptor-$verb"
done
for page in $pages; do
    man --warnings -l "$page" >/tmp/page 2>/tmp/warnings
    [ ! -s /tmp/warnings ] || { cat /tmp/warnings; fail "$page has errors"; }
    grep -q NAME /tmp/page || fail "$page is empty"
done
bash -n /usr/share/bash-completion/completions/faceptor || fail "the completion for bash has errors"
bash -c '. /usr/share/bash-completion/completions/faceptor; COMP_WORDS=(faceptor run --pre); COMP_CWORD=2; _faceptor faceptor --pre run
    echo "${COMPREPLY[@]}"' >/tmp/completion
has /tmp/completion "--preview"
passed "$(echo "$pages" | wc -l) manual pages without warnings; bash completes --pre to --preview"

sed -i 's/^# fps = .*/fps = 15/' /etc/faceptor/faceptor.toml
echo '{"frame":0}' >/var/lib/faceptor/faces.jsonl
chown faceptor: /var/lib/faceptor/faces.jsonl
sha256sum /etc/faceptor/faceptor.toml /var/lib/faceptor/faces.jsonl >/tmp/kept
user=$(cat /tmp/user)
apt install -y faceptor || { cat /tmp/apt.log; fail "upgrade"; }
[ "$(dpkg-query -W -f '${Version}' faceptor)" = "$NEW" ] || fail "not upgraded"
sha256sum --quiet -c /tmp/kept || fail "the upgrade changed the configuration or the recordings"
[ -f /etc/faceptor/faceptor.toml.dpkg-dist ] || fail "the new configuration is not laid beside the old one"
[ "$(getent passwd faceptor)" = "$user" ] || fail "the upgrade changed the user"
faceptor config check | grep -q -- '--fps=15' || fail "the changed configuration is not read"
passed "upgraded from $OLD to $NEW: configuration, recordings and user kept"

sed -i 's/^fps = 15/fsp = 15/' /etc/faceptor/faceptor.toml
status=0
faceptor config check 2>/tmp/mistake || status=$?
line=$(grep -n '^fsp' /etc/faceptor/faceptor.toml | cut -d: -f1)
has /tmp/mistake "/etc/faceptor/faceptor.toml:$line:"
has /tmp/mistake "did you mean fps?"
[ $status -ne 0 ] || fail "a mistake in the configuration is accepted"
passed "a mistake is named: $(cat /tmp/mistake)"

apt remove -y faceptor || { cat /tmp/apt.log; fail "removal"; }
[ ! -e /usr/bin/faceptor ] || fail "the program is still there"
grep -q '^fsp' /etc/faceptor/faceptor.toml || fail "the removal took the configuration"
[ -f /var/lib/faceptor/faces.jsonl ] || fail "the removal took the recordings"
passed "removed: configuration and recordings kept"

apt purge -y faceptor || { cat /tmp/apt.log; fail "purge"; }
find / -xdev \( -path /proc -o -path /repo -o -path /foreign -o -path /tmp \) -prune -o -name '*faceptor*' -print >/tmp/left
# apt's own lists name the repository's path, not ours.
grep -v '^/var/lib/apt/lists/\|^/var/cache/' /tmp/left >/tmp/left.ours || true
[ ! -s /tmp/left.ours ] || { cat /tmp/left.ours; fail "the purge left files"; }
getent passwd faceptor >/dev/null || fail "the purge gave the user's number free"
passed "purged: no file is left, the user's number is"

apt install -y faceptor || { cat /tmp/apt.log; fail "installation after the purge"; }
faceptor config check >/dev/null || fail "the configuration after the purge"
passed "installed again"
