# Runs in the services' sandbox as their user, and tries what must not be reachable. Writes `reached:` for each hole.
exec >/run/faceptor/probe 2>/dev/null
tried=0
# refused WHAT COMMAND...: the command must fail.
refused() {
    local what=$1
    shift
    tried=$((tried + 1))
    if "$@"; then echo "reached: $what"; fi
}
# granted WHAT COMMAND...: a sandbox in which nothing works would prove nothing.
granted() {
    local what=$1
    shift
    tried=$((tried + 1))
    if ! "$@"; then echo "reached: nothing, not even $what"; fi
}
opens() { (exec 3<>"$1"); }
writes() { echo x >"$1"; }

granted "its recordings" writes /var/lib/faceptor/probe
granted "its socket's folder" writes /run/faceptor/probe.x
granted "the camera" opens /dev/video0
granted "its configuration" test -r /etc/faceptor/faceptor.toml

refused "writing the configuration" writes /etc/faceptor/faceptor.toml
refused "writing /etc" writes /etc/probe
refused "writing /usr" writes /usr/probe
refused "writing the host's folder" writes /mnt/host/probe.out
refused "root's files" cat /root/secret
refused "files in /home" cat /home/someone/secret
refused "passwords" cat /etc/shadow
refused "the kernel's log" opens /dev/kmsg
refused "the console" opens /dev/ttyAMA0
refused "memory" opens /dev/mem
refused "another process" test -e /proc/1/status
refused "kernel settings" test -e /proc/sys/kernel/hostname
refused "writing /sys" writes /sys/kernel/mm/transparent_hugepage/enabled
refused "control groups" writes /sys/fs/cgroup/cgroup.procs
refused "IPv4" opens /dev/tcp/127.0.0.1/9
refused "a network interface" grep -qv 'lo:\|face\|Inter' /proc/self/net/dev
refused "user namespaces" unshare --user true
refused "mounting" mount -t tmpfs x /tmp
refused "the host's name" hostname probe
refused "the clock" date --set 2030-01-01
for folder in /var/lib/faceptor /run/faceptor /tmp /var/tmp /dev/shm; do
    cp /bin/true $folder/program
    chmod +x $folder/program
    refused "a program that it wrote into $folder" $folder/program
    rm -f $folder/program
done
refused "signals to others" kill -0 1
refused "new privileges" grep -q '^NoNewPrivs:.*0$' /proc/self/status
refused "capabilities" grep -q '^Cap\(Eff\|Prm\|Bnd\|Amb\):.*[1-9a-f]' /proc/self/status
refused "unfiltered system calls" grep -q '^Seccomp:.*0$' /proc/self/status
rm -f /var/lib/faceptor/probe /run/faceptor/probe.x
echo "tried $tried things"
