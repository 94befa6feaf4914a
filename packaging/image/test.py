#!/usr/bin/env python3
"""Tests an image on a virtual board. `make image-test` calls it.

    packaging/image/test.py IMAGE [--case NAME]... [--work DIR] [--kills N] [--verbose]

Each step prints `passed:`. Every case begins with a disk of its own: a fresh one, or one after the first boot (case first-boot), which is
made where it is missing. --work keeps disks and bundles, so that the next call finds them.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import board
import updates
from run import CONFIGURATION

# Emulation on a loaded machine: a boot takes minutes.
LIMIT_S = board.LIMIT_S


def first_boot(disk, verbose):
    """Settings with a Windows editor's line ends, a key that is none; growth, service, report, who gets in. Returns what must stay."""
    public = disk.key.with_suffix(".pub").read_text()
    disk.settings({
        "authorized_keys": f"\ufeff{public.strip()}\r\nssh-ed25519 nonsense\r\n",
        "hostname": "test-board\r\n",
        "faceptor.toml": CONFIGURATION.replace("\n", "\r\n"),
        "wifi.conf": "country=de\nssid=A Network\npsk=correct horse\n",
        "test-camera": "",
    })  # fmt: skip
    machine = board.Board(disk, verbose=verbose)
    try:
        machine.until("ssh with the key of the FAT partition", "true", LIMIT_S)
        checks = board.Checks(machine)
        checks.check("ssh with the key of the FAT partition", True)
        checks.run("its name", "hostname", "^test-board$")
        refused = machine.ssh("true", options=["-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=0", "-v"])
        offered = re.findall(r"Authentications that can continue: (.*)", refused.stderr)
        checks.check("ssh offers keys only", refused.returncode == 255 and offered and set(offered) == {"publickey"}, refused.stderr[-500:])
        checks.run("no account has a password", "awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow | wc -l", "^0$")
        checks.run("the root is read-only, checked by dm-verity", "awk '$2 == \"/\" {print $1, $3, $4}' /proc/mounts; touch /usr/x 2>&1 || true",
                   r"(?s)^/dev/mapper/\S+ squashfs ro.*Read-only file system")  # fmt: skip
        # 64 MiB in the image, and what the disk has more.
        text = checks.run("the data partition is kept", "cat /run/faceptor-image/data; df -B1M --output=size /data | tail -n 1", "^kept")
        blocks = int(text.split()[-1])
        checks.check(f"it grew to {blocks} MiB", blocks > board.GROWTH_BYTES >> 20, blocks)
        checks.run("the partition table is whole", "sfdisk --verify /dev/vda 2>&1; sfdisk --list /dev/vda", "No errors detected")
        checks.run("the hardware watchdog is armed", "cat /sys/class/watchdog/watchdog0/state", "^active$")
        checks.run("the name is answered by mDNS", "resolvectl mdns; ss -lun", r"(?s)yes.*:5353")
        wifi = "/etc/wpa_supplicant/wifi.conf"
        checks.run("Wi-Fi is configured, without its password", f"cat {wifi}; stat -c %a {wifi}",
                   r'(?s)country=DE.*ssid="A Network".*psk=[0-9a-f]{64}.*600$')  # fmt: skip
        machine.until("READY", "systemctl is-active faceptor", LIMIT_S)
        checks.check("READY", True)
        checks.run("AppArmor confines it", "cat /proc/$(pgrep -x faceptor)/attr/apparmor/current", r"^faceptor \(enforce\)")
        preview(machine, checks)
        machine.until("the report", "test -s /var/lib/faceptor-image/reported", LIMIT_S)
        checks.check("the report is written", True)
        failed = checks.run("which units failed", "systemctl --failed --plain --no-legend | grep -v '^$' || true")
        checks.check("no unit failed", failed == "", failed)
        machine.out("echo kept >/var/lib/faceptor/marker; echo kept >/root/marker; sync")
        stay = machine.out("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
        machine.power_off()
    finally:
        machine.stop()
    report = disk.read_setting("report.txt") or ""
    for wanted in ["test-board.local", "address ", "verify with 0", "faceptor.service is active", "authorized_keys:2: this is no public key"]:
        checks.check(f"the report says: {wanted}", wanted in report, report)
    return stay


def preview(machine, checks):
    """What the host's browser shows: pictures of the board's camera, and a face in them."""
    port = board.free_port()
    tunnel = machine.forward(port, 8080)
    try:
        picture, faces = b"", 0
        while machine.age() < 2 * LIMIT_S and not (picture and faces):
            try:
                picture = picture or first_picture(f"http://127.0.0.1:{port}/stream.mjpg")
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=120) as answer:
                    faces = len(re.findall(r'"box"', answer.read().decode()))
            except OSError:
                board.time.sleep(2)
    finally:
        tunnel.kill()
        tunnel.wait()
    checks.check(f"the preview's stream holds pictures: the first has {len(picture)} bytes", len(picture) > 1000)
    checks.check(f"{faces} face in the preview's state", faces > 0)


def first_picture(address):
    """Returns the first JPEG of an MJPEG stream."""
    with urllib.request.urlopen(address, timeout=300) as stream:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 4096:
            head += stream.read(1)
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
        picture = stream.read(length)
    return picture if picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9" else b""


def second_boot(disk, stay, verbose):
    """What the first boot made stays; a mistake in a changed configuration is named, and the one before it is used."""
    disk.settings({"faceptor.toml": CONFIGURATION.replace("tasks", "taks"), "hostname": "no name\n", "authorized_keys": "nothing\n"})
    machine = board.Board(disk, verbose=verbose)
    try:
        machine.until("ssh with the key of the first boot", "true", LIMIT_S)
        checks = board.Checks(machine)
        checks.check("second boot: the key stays when the new file has none", True)
        text = machine.out("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
        checks.check("machine number and host key stay", text == stay, text)
        checks.run("files of the data partition stay", "cat /var/lib/faceptor/marker /root/marker", "^kept\nkept$")
        checks.run("a wrong name changes nothing", "hostname", "^test-board$")
        machine.until("READY with the last good configuration", "systemctl is-active faceptor", LIMIT_S)
        checks.check("READY with the last good configuration", True)
        machine.until("the report", "test -s /var/lib/faceptor-image/reported", LIMIT_S)
        machine.power_off()
    finally:
        machine.stop()
    report = disk.read_setting("report.txt") or ""
    for wanted in ['faceptor.toml:2: there is no option "taks": did you mean tasks?', "'no name' is no host name", "no key in it"]:
        checks.check(f"the report says: {wanted}", wanted in report, report)


def damaged_root(disk, verbose):
    """A changed byte in the root partition is noticed, and the board starts again instead of running it."""
    listed = subprocess.run(["/sbin/sfdisk", "--dump", disk.path], check=True, capture_output=True, text=True).stdout
    start = int(re.search(r'start= *(\d+),[^\n]*name="root-a"', listed)[1]) * 512
    with open(disk.path, "r+b") as file:
        # The super block of squashfs, which is read in any case.
        file.seek(start + 8)
        byte = file.read(1)
        file.seek(start + 8)
        file.write(bytes([byte[0] ^ 1]))
    machine = board.Board(disk, verbose=verbose)
    try:
        checks = board.Checks(machine)

        def seen(pattern):
            return sum(bool(re.search(pattern, line)) for line in machine.lines)

        # The firmware says when it starts a boot loader.
        while machine.age() < LIMIT_S and machine.process.poll() is None and seen("BdsDxe: starting") < 2:
            board.time.sleep(1)
        text = "\n".join(machine.lines[-60:])
        checks.check("a damaged root is not run", seen("dm-verity.*corrupt"), text)
        checks.check("the board starts again", seen("BdsDxe: starting") == 2, text)
    finally:
        machine.stop()


class Lab:
    """The disks of a run: one after the first boot, which the other cases copy."""

    def __init__(self, image, work, verbose):
        self.image, self.work, self.verbose = image, pathlib.Path(work), verbose
        self.settled = self.work / "settled"
        # Disk and board that a case left running, for the next one.
        self.left = None

    def stop(self):
        if self.left:
            self.left[1].stop()
            self.left = None

    def fresh(self, case):
        self.stop()
        shutil.rmtree(self.work / case, ignore_errors=True)
        return board.Disk(self.image, self.work / case)

    def after_first_boot(self, case):
        """Returns a disk after its first boot, and what must stay of it."""
        self.stop()
        stay = self.settled / "stay"
        source = f"{self.image.resolve()} {self.image.stat().st_mtime_ns}\n"
        if not stay.exists() or not stay.read_text().startswith(source):
            shutil.rmtree(self.settled, ignore_errors=True)
            disk = board.Disk(self.image, self.settled)
            text = first_boot(disk, self.verbose)
            stay.write_text(source + text)
        shutil.rmtree(self.work / case, ignore_errors=True)
        return board.Disk.kept(self.settled).copy(self.work / case), stay.read_text().removeprefix(source)


def main():
    arguments = argparse.ArgumentParser(description="Tests an image on a virtual board.")
    cases = {
        "first-boot": lambda lab, _: lab.after_first_boot("first-boot"),
        "second-boot": lambda lab, name: second_boot(*lab.after_first_boot(name), lab.verbose),
        "damaged-root": lambda lab, name: damaged_root(lab.fresh(name), lab.verbose),
        **updates.CASES,
    }
    arguments.add_argument("image", type=pathlib.Path)
    arguments.add_argument("--case", action="append", choices=cases, help="run this case only; may be given several times")
    arguments.add_argument("--work", type=pathlib.Path, help="keep disks and bundles in this folder")
    arguments.add_argument("--kills", type=int, default=3, help="how often QEMU is killed while an update is installed")
    arguments.add_argument("--verbose", action="store_true", help="print the board's console")
    arguments = arguments.parse_args()
    board.prepare()
    updates.KILLS = arguments.kills
    failed = []
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="image-test.", dir="/var/tmp") as folder:
        lab = Lab(arguments.image, arguments.work or folder, arguments.verbose)
        for name in arguments.case or cases:
            started = board.time.monotonic()
            print(f"== {name}", flush=True)
            try:
                cases[name](lab, name)
            except board.BoardError as error:
                failed.append(name)
                print(f"image-test: FAILED: {name}: {error}", flush=True)
            except BaseException:
                lab.stop()
                raise
            print(f"== {name}: {board.time.monotonic() - started:.0f} s", flush=True)
        lab.stop()
    if failed:
        sys.exit(f"image-test: FAILED: {', '.join(failed)}")
    print(f"image-test: all {len(arguments.case or cases)} cases passed")


if __name__ == "__main__":
    main()
