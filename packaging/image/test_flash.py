#!/usr/bin/env python3
"""Tests `flash` on files, and on loop devices where this is root: what is refused, what is written, the settings. `make flash-test`.

A loop device that is mounted, too small, or the system's own disk must stay as it is.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FLASH = HERE / "flash"
MIB = 1 << 20
TABLE = "label: gpt\nstart=1MiB, size=64MiB, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\nstart=65MiB, size=8MiB\n"
os.environ["PATH"] += ":/usr/sbin:/sbin"


def run(*command, text=None, check=True):
    return subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True, check=check)


def passed(what):
    print(f"passed: {what}", flush=True)


def small_image(path):
    """A GPT with a FAT partition and one of random bytes, in 90 MiB with holes."""
    fat = path.with_suffix(".fat")
    os.truncate(os.open(fat, os.O_RDWR | os.O_CREAT), 64 * MIB)
    run("mkfs.vfat", "-F", "32", "-s", "1", fat)
    run("mmd", "-i", fat, "::faceptor")
    os.truncate(os.open(path, os.O_RDWR | os.O_CREAT), 90 * MIB)
    run("sfdisk", "--quiet", path, text=TABLE)
    run("dd", f"if={fat}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
    with open(path, "r+b") as file:
        file.seek(65 * MIB)
        file.write(os.urandom(8 * MIB))


def refused(words, reason, untouched=None):
    """flash must fail, name the reason, and leave a file or device as it is."""
    before = untouched.read_bytes() if untouched else None
    done = run(FLASH, *words, check=False)
    if done.returncode == 0 or reason not in done.stderr:
        sys.exit(f"flash-test: FAILED: {words} ended with {done.returncode}, and '{reason}' is not in: {done.stderr}{done.stdout}")
    if untouched and untouched.read_bytes() != before:
        sys.exit(f"flash-test: FAILED: {untouched} was changed, although: {done.stderr}")
    passed(f"refused: {reason}")


def same_but_settings(image, written, host):
    """Partition table and second partition equal the image's, zeros where it has holes, and the host's name is in the FAT partition."""
    wanted, found = image.read_bytes(), written.read_bytes()[: 90 * MIB]
    if wanted[:MIB] != found[:MIB] or wanted[65 * MIB :] != found[65 * MIB :]:
        sys.exit("flash-test: FAILED: what was written differs from the image")
    copy = image.with_suffix(".copy")
    copy.write_bytes(found)
    name = run("mtype", "-i", f"{copy}@@{MIB}", "::faceptor/hostname").stdout
    if name != f"{host}\n":
        sys.exit(f"flash-test: FAILED: the host's name on the FAT partition is '{name}'")


@contextlib.contextmanager
def loop_device(path):
    device = run("losetup", "--find", "--show", path).stdout.strip()
    try:
        yield pathlib.Path(device)
    finally:
        run("losetup", "--detach", device)


def on_files(folder, image):
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    out = folder / "out.img"
    words = [image, out, "--hostname", "kitchen", "--ssh-key", f"{key}.pub"]
    done = run(FLASH, *words)
    same_but_settings(image, out, "kitchen")
    if out.stat().st_blocks * 512 > 20 * MIB:
        sys.exit(f"flash-test: FAILED: the file has no holes: {out.stat().st_blocks * 512} bytes; {done.stdout}")
    passed("a file: content, settings, holes")

    cut = folder / "cut.img"
    cut.write_bytes(image.read_bytes()[: 50 * MIB])
    refused([cut, out], "was cut short", out)
    damaged = folder / "damaged.img"
    damaged.write_bytes(image.read_bytes()[: 90 * MIB - 512] + bytes(512))
    refused([damaged, out], "second partition table", out)
    refused([key, out], "no disk image with a GPT", out)
    refused([folder / "none.img", out], "No such file", out)
    refused([image, image], "image and device are the same", image)
    refused([image, "/dev/null"], "neither a disk nor a file")
    refused([image, "/dev/faceptor-none"], "does not exist")
    for name in ["a b", "-a", "a.b", "", "x" * 64]:
        refused([image, out, f"--hostname={name}"], "is no host name", out)
    refused([image, out, "--ssh-key", key], "is a private key", out)
    refused([image, out, "--ssh-key", "/etc/passwd"], "holds no public key", out)
    refused([image, out, "--config", folder / "none.toml"], "No such file", out)


def on_devices(folder, image):
    """Needs root and loop devices."""
    disk = folder / "disk"
    disk.write_bytes(os.urandom(MIB) * 100)
    with loop_device(disk) as device:
        refused([image, device], "--yes must confirm", device)
        run(FLASH, image, device, "--yes", "--hostname", "porch")
        same_but_settings(image, device, "porch")
        passed("a disk full of other data: content, empty blocks, settings")
        if device.read_bytes()[-MIB:].strip(b"\0"):
            sys.exit("flash-test: FAILED: an older partition table at the disk's end is still there")
        passed("the disk's end is empty")
    # A disk that fails while it is written: its memory is full after 4 MiB.
    (folder / "memory").mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder / "memory")
    try:
        broken = folder / "memory/disk"
        os.truncate(os.open(broken, os.O_RDWR | os.O_CREAT), 100 * MIB)
        with loop_device(broken) as device:
            refused([image, device, "--yes"], "failed at byte")
    finally:
        run("umount", "--lazy", folder / "memory")
    # A partition of a disk, where this kernel makes one.
    disk.write_bytes(image.read_bytes())
    device = run("losetup", "--find", "--show", "--partscan", disk).stdout.strip()
    try:
        partition = pathlib.Path(f"{device}p2")
        if partition.exists():
            refused([image, partition, "--yes"], "is a partition: name the whole disk", partition)
        else:
            print("flash-test: a partition is NOT tested: this kernel makes none on loop devices")
    finally:
        run("losetup", "--detach", device)
    disk.write_bytes(os.urandom(MIB) * 100)
    small = folder / "small"
    small.write_bytes(bytes(50 * MIB))
    with loop_device(small) as device:
        refused([image, device, "--yes"], "take a larger one", device)
    run("mke2fs", "-q", "-t", "ext4", disk)
    with loop_device(disk) as device:
        (folder / "mounted").mkdir()
        run("mount", device, folder / "mounted")
        try:
            refused([image, device, "--yes"], "is in use (mounted at ")
        finally:
            run("umount", folder / "mounted")
    system = run("findmnt", "--noheadings", "--output", "SOURCE", "/").stdout.strip()
    if system.startswith("/dev/"):
        name = run("lsblk", "--noheadings", "--nodeps", "--output", "PKNAME", system).stdout.strip() or system.removeprefix("/dev/")
        # Without --yes, so that a fault of flash cannot overwrite this machine.
        refused([image, f"/dev/{name}"], "the running system")


def main():
    with tempfile.TemporaryDirectory(prefix="flash-test.", dir="/var/tmp") as folder:
        folder = pathlib.Path(folder)
        image = folder / "image.img"
        small_image(image)
        on_files(folder, image)
        if os.geteuid() == 0 and pathlib.Path("/dev/loop-control").exists():
            on_devices(folder, image)
        else:
            print("flash-test: devices are NOT tested: that needs root and loop devices")
    print("flash-test: all steps passed")


if __name__ == "__main__":
    main()
