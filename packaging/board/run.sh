# Runs on the virtual board under systemd, as root: installs the package, follows a camera, stops the process, tries the sandbox.
# Each step prints `passed:` or `FAILED:`; the first failure ends the script. The board is a hundred times slower than a real one.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
unit=faceptor@video0.service
configuration=/etc/faceptor/faceptor.toml
recording=/var/lib/faceptor/video0/faces.jsonl

now() { cut -d' ' -f1 /proc/uptime; }
passed() { echo "passed: $* ($(now) s)"; }
fail() {
    echo "FAILED: $*"
    systemctl status --no-pager --lines=0 $unit
    journalctl --no-pager --quiet --lines=40
    exit 1
}
# until_true LIMIT_S WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited in vain: $what"
        sleep 0.5
    done
}
active() { systemctl is-active --quiet $unit; }
inactive() { ! systemctl is-active --quiet $unit; }
property() { systemctl show --value --property "$1" $unit; }
journal() { journalctl --no-pager --quiet --unit $unit | grep -qF -- "$1"; }
# Reads the process first: it is 0 between the end of one and the start of the next.
another_process() {
    local found
    found=$(property MainPID)
    [ "$found" != 0 ] && [ "$found" != "$process" ] && active
}

echo "board: $(uname -srm), $(systemctl --version | head -n 1), up after $(now) s"

dpkg --install faceptor.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "installation"; }
id -nG faceptor | grep -qw video || fail "the user faceptor is not in the group video"
[ "$(systemctl list-units --all --plain --no-legend 'faceptor*' | wc -l)" -eq 0 ] || fail "installing started a service"
faceptor config check >/dev/null || fail "the configuration that is installed"
passed "installed; no service started"

# One task and a small picture, because the board is emulated; the watchdog's time for the same reason.
sed -i 's/^# tasks = .*/tasks = ["age"]/; s/^# size = .*/size = "320x180"/; s/^# fps = .*/fps = 5/; s/^# budget-ms = .*/budget-ms = 5000/' $configuration
faceptor config check >/dev/null || fail "the changed configuration"
mkdir -p /etc/systemd/system/faceptor@.service.d
printf '[Service]\nWatchdogSec=15\n' >/etc/systemd/system/faceptor@.service.d/50-watchdog.conf
systemctl daemon-reload
systemctl enable --quiet $unit || fail "enabling"
inactive || fail "the service runs without a camera"
modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0 || fail "no camera driver"
until_true 120 "READY after the camera appeared" active
passed "enabled before there is a camera: READY by itself once it appears"

process=$(property MainPID)
until_true 60 "lines in the recording" test -s $recording
[ "$(stat -c %U:%a $recording)" = faceptor:600 ] || fail "the recording is $(stat -c %U:%a $recording)"
faceptor ctl --control /run/faceptor/video0.sock status >/tmp/status || fail "ctl status"
[ "$(stat -c %U /proc/"$process")" = faceptor ] || fail "the process is not faceptor's"
passed "records as its own user and answers ctl"

kill -STOP "$process"
until_true 90 "another process after the watchdog's time" another_process
journal "Watchdog timeout" || fail "the journal names no watchdog"
[ "$(property NRestarts)" -ge 1 ] || fail "systemd counts no restart"
passed "a stopped process: the watchdog ends it, and another one is READY"

process=$(property MainPID)
sed -i 's/^tasks = /taks = /' $configuration
line=$(grep -n '^taks' $configuration | cut -d: -f1)
systemctl restart $unit || fail "the restart with a mistake in the configuration"
until_true 60 "READY with the last good configuration" another_process
journal "$configuration:$line: there is no option \"taks\": did you mean tasks?" || fail "the mistake is not in the journal"
sed -i 's/^taks = /tasks = /' $configuration
passed "a mistake in the configuration: line $line is named, the last good one is used"

confined=$(cat "/proc/$(property MainPID)/attr/apparmor/current" 2>/dev/null)
[ "$confined" = "faceptor (enforce)" ] || fail "the process's AppArmor profile is '$confined'"
echo secret >/etc/secret
aa-exec -p faceptor -- faceptor config check /etc/secret 2>/tmp/refused && fail "a file outside the profile was read"
grep -q "Permission denied" /tmp/refused || fail "AppArmor: $(cat /tmp/refused)"
passed "AppArmor confines it: other files are refused even to root"

# The same sandbox around a shell, which tries what must not be reachable.
mkdir -p /etc/systemd/system/probe.service.d
cp /lib/systemd/system/faceptor@.service.d/10-sandbox.conf /etc/systemd/system/probe.service.d/
cat >/etc/systemd/system/probe.service.d/20-shell.conf <<'UNIT'
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
AppArmorProfile=
ExecPaths=/usr
StateDirectory=faceptor
UNIT
# The folder of the host is root's: the probe's user reads a copy.
install -D -m 644 /mnt/host/probe.sh /usr/local/share/probe.sh
printf '[Service]\nExecStart=/bin/bash /usr/local/share/probe.sh\n' >/etc/systemd/system/probe.service
mkdir -p /home/someone && chmod 755 /root && echo secret >/root/secret && echo secret >/home/someone/secret
systemctl daemon-reload
rm -f /run/faceptor/probe
systemctl start probe.service || { cat /run/faceptor/probe; fail "the probe"; }
cat /run/faceptor/probe
grep -q '^reached:' /run/faceptor/probe && fail "the sandbox has a hole"
tail -n 1 /run/faceptor/probe | grep -q '^tried' || fail "the probe did not end"
passed "the sandbox holds"

process=$(property MainPID)
dpkg --install faceptor.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "upgrade"; }
until_true 90 "READY after the upgrade" another_process
grep -q '^tasks = \["age"\]' $configuration || fail "the upgrade changed the configuration"
passed "an upgrade restarts the instance and keeps the configuration"

dpkg --remove faceptor >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "removal"; }
inactive || fail "the service still runs"
pgrep -x faceptor >/dev/null && fail "a process is left"
[ -s $recording ] && [ -s $configuration ] || fail "the removal took recordings or configuration"
dpkg --purge faceptor >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "purge"; }
[ ! -e /var/lib/faceptor ] && [ ! -e $configuration ] || fail "the purge left recordings or configuration"
[ -z "$(find /etc/systemd/system -name 'faceptor@video0.service')" ] || fail "the purge left an enabled instance"
passed "removed: the service ends; purged: nothing is left"
