#!/usr/bin/env python3
"""Makes a signed update of an image: the boot and root partitions of slot A as a RAUC bundle. `make image-bundle` calls it.

    packaging/image/bundle.py IMAGE --out FILE [--keys DIR] [--options WORDS] [--version VERSION] [--compatible NAME]

--options adds words to the kernel's command line. --version and --compatible name another version and board than the image's; tests
use them.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
COMPATIBLE = re.search(r"^compatible=(\S+)$", (HERE / "files/etc/rauc/system.conf").read_text(), re.MULTILINE)[1]
ENTRY = "::loader/entries/faceptor.conf"
SECTOR = 512
CHUNK = 1 << 20


def prepare():
    """Installs what is missing."""
    needed = {"rauc": "rauc", "mtools": "mcopy", "fdisk": "/usr/sbin/sfdisk", "squashfs-tools": "mksquashfs"}
    missing = [package for package, program in needed.items() if not shutil.which(program)]
    if missing:
        subprocess.run([HERE.parents[1] / ".ci/install", *missing], check=True)


def own_keys(folder=None):
    """Returns the folder of the keys; makes them where they are missing."""
    environment = {**os.environ, "FACEPTOR_IMAGE_KEYS": str(folder)} if folder else None
    return subprocess.run([HERE / "keys.sh"], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def partitions(image):
    """Returns the partitions of an image: name to first byte and size."""
    listed = subprocess.run(["/usr/sbin/sfdisk", "--dump", image], check=True, capture_output=True, text=True).stdout
    found = re.findall(r'start= *(\d+), size= *(\d+),[^\n]*name="([^"]+)"', listed)
    return {name: (int(start) * SECTOR, int(size) * SECTOR) for start, size, name in found}


def extract(image, partition, path):
    """Copies a partition into a file, without the zeros at its end."""
    first, left = partition
    end = 0
    with open(image, "rb") as source, open(path, "wb") as copy:
        source.seek(first)
        while left > 0:
            chunk = source.read(min(CHUNK, left))
            left -= len(chunk)
            used = len(chunk.rstrip(b"\0"))
            if used:
                copy.write(chunk)
                end = copy.tell() - len(chunk) + used
            else:
                copy.seek(len(chunk), 1)
        copy.truncate((end + 4095) // 4096 * 4096)


def change_entry(boot, options, version):
    """Changes the kernel's command line on a boot partition; returns the version that it names."""
    entry = subprocess.run(["mtype", "-i", boot, ENTRY], check=True, capture_output=True, text=True).stdout
    changed = entry
    if version:
        changed = re.sub(r"faceptor\.version=\S+", f"faceptor.version={version.replace(' ', ',')}", changed)
    if options:
        changed = re.sub(r"(?m)^(options .*)$", rf"\1 {options}", changed)
    if changed != entry:
        subprocess.run(["mcopy", "-o", "-i", boot, "-", ENTRY], input=changed.encode(), check=True)
    return re.search(r"faceptor\.version=(\S+)", changed)[1].replace(",", " ")


def pack(content, out, keys, version, compatible=COMPATIBLE):
    """Signs a folder with boot.img and root.img as a bundle."""
    (content / "version").write_text(version + "\n")
    (content / "manifest.raucm").write_text(
        f"[update]\ncompatible={compatible}\nversion={version}\n\n[bundle]\nformat=verity\n\n"
        "[image.rootfs]\nfilename=root.img\n\n[image.boot]\nfilename=boot.img\n"
    )
    # Most of it is compressed already.
    squashfs = "--mksquashfs-args=-comp zstd -Xcompression-level 3"
    command = ["rauc", "bundle", f"--cert={keys}/update.pem", f"--key={keys}/update.key", f"--keyring={keys}/ca.pem", squashfs]
    new = out.with_name(out.name + ".new")
    new.unlink(missing_ok=True)
    done = subprocess.run([*command, content, new], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"image-bundle: rauc failed: {done.stdout}{done.stderr}")
    new.replace(out)


def make(image, out, keys, options="", version="", compatible=COMPATIBLE):
    """Makes the bundle of an image. Returns its version."""
    found = partitions(image)
    out = pathlib.Path(out).resolve()
    with tempfile.TemporaryDirectory(prefix="image-bundle.", dir=out.parent) as folder:
        content = pathlib.Path(folder)
        extract(image, found["boot-a"], content / "boot.img")
        # A FAT is whole with the zeros at its end only.
        os.truncate(content / "boot.img", found["boot-a"][1])
        extract(image, found["root-a"], content / "root.img")
        version = change_entry(content / "boot.img", options, version)
        pack(content, out, keys, version, compatible)
    return version


def main():
    arguments = argparse.ArgumentParser(description="Makes a signed update of an image.")
    arguments.add_argument("image", type=pathlib.Path)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--keys", type=pathlib.Path, help="folder of the keys (keys.sh)")
    arguments.add_argument("--options", default="", help="more words for the kernel's command line")
    arguments.add_argument("--version", default="", help="another version, such as '9.0-1 20260101'")
    arguments.add_argument("--compatible", default=COMPATIBLE)
    arguments = arguments.parse_args()
    prepare()
    keys = arguments.keys or own_keys()
    version = make(arguments.image, arguments.out, keys, arguments.options, arguments.version, arguments.compatible)
    print(f"image-bundle: {arguments.out}: version {version}, {arguments.out.stat().st_size} bytes, for {arguments.compatible}")


if __name__ == "__main__":
    main()
