#!/usr/bin/env python3
"""Boots an image on a virtual board and brings its preview page to this machine's browser. `make image-run` calls it.

    packaging/image/run.py IMAGE [--preview PORT] [--fresh]

The board's disk, a copy, is kept in ~/.cache/faceptor-image/run, so the second start is not a first boot; --fresh or another image
begins anew. Ctrl-C turns the board off.
"""

import argparse
import os
import pathlib
import shutil
import sys

import board

# A loaded machine of two cores needs minutes for a boot.
LIMIT_S = 1200
# The emulated board is a hundred times slower than a real one: one task, a generous deadline, and a loop that leaves
# time to the rest of the system although it is never done.
CONFIGURATION = """source = "/dev/video0"
tasks = ["landmarks"]
budget-ms = 5000
rt = "off"
control = "/run/faceptor/faceptor.sock"
preview = "127.0.0.1:8080"
"""


def main():
    arguments = argparse.ArgumentParser(description="Boots an image on a virtual board, with a test camera and the preview page.")
    arguments.add_argument("image", type=pathlib.Path)
    arguments.add_argument("--preview", type=int, default=8080, help="port on this machine for the preview page")
    arguments.add_argument("--fresh", action="store_true", help="begin with a first boot")
    arguments = arguments.parse_args()
    board.prepare()

    cache = pathlib.Path(os.environ.get("FACEPTOR_IMAGE_CACHE") or pathlib.Path.home() / ".cache/faceptor-image")
    folder = cache / "run"
    source = f"{arguments.image.resolve()} {arguments.image.stat().st_mtime_ns}"
    kept = folder / "source"
    if arguments.fresh or not kept.exists() or kept.read_text() != source:
        shutil.rmtree(folder, ignore_errors=True)
        disk = board.Disk(arguments.image, folder)
        settings = {"authorized_keys": disk.key.with_suffix(".pub").read_text(), "hostname": "virtual-board\n"}
        disk.settings({**settings, "faceptor.toml": CONFIGURATION, "test-camera": ""})
        kept.write_text(source)
    else:
        disk = board.Disk.kept(folder)

    machine = board.Board(disk, verbose=True)
    tunnel = None
    try:
        machine.until("ssh", "true", LIMIT_S)
        print(f"image-run: {machine.age():.0f} s: ssh -p {machine.port} -i {disk.key} root@127.0.0.1", flush=True)
        machine.until("READY", "systemctl is-active faceptor", LIMIT_S)
        tunnel = machine.forward(arguments.preview, 8080)
        address = f"http://127.0.0.1:{arguments.preview}"
        print(f"image-run: {machine.age():.0f} s: READY. The preview: {address}  (Ctrl-C turns the board off)", flush=True)
        tunnel.wait()
        print("image-run: the connection to the board has ended", flush=True)
    except board.BoardError as error:
        sys.exit(f"image-run: {error}")
    except KeyboardInterrupt:
        print("image-run: turning the board off", flush=True)
        machine.power_off()
    finally:
        if tunnel:
            tunnel.kill()
        machine.stop()


if __name__ == "__main__":
    main()
