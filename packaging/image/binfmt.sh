#!/bin/sh
# A setup hook of mmdebstrap: lets this namespace run arm64 programs by QEMU. Does nothing where the machine can do so already.
# From Linux 6.7 on, a user namespace has its own table of interpreters, so neither root nor a change of the machine is needed.
set -e
[ "$(dpkg --print-architecture)" != arm64 ] || exit 0
[ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || exit 0
remedy="apt-get install qemu-user-static binfmt-support, and start me again"
[ -x /usr/bin/qemu-aarch64-static ] || { echo "image: QEMU's user emulation is missing: $remedy" >&2; exit 1; }
if ! mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; then
    echo "image: this machine does not run arm64 programs, and its kernel ($(uname -r)) is older than 6.7: $remedy" >&2
    exit 1
fi
# The first bytes of an arm64 ELF program, and which of their bits count. F: the interpreter is opened now, outside the root.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register
