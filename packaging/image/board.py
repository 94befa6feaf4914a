"""A virtual UEFI board that boots an image: QEMU with Debian's AAVMF firmware, a disk, a network with ssh on loopback.

Standard library only. The image itself stays as it is: the board works on a copy with holes, on a larger disk.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRMWARE = pathlib.Path("/usr/share/AAVMF")
# The settings' partition begins at the first MiB (build.sh).
SETTINGS_OFFSET = 1 << 20
GROWTH_BYTES = 512 << 20
# Emulation on a loaded machine: a boot takes minutes.
LIMIT_S = 1800
SSH = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60"]


def prepare():
    """Installs what the virtual board needs, where it is missing. From now on, a program that is ended turns its board off."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    needed = {"qemu-system-arm": "qemu-system-aarch64", "mtools": "mcopy", "openssh-client": "ssh", "fdisk": "sfdisk"}
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [package for package, program in needed.items() if not shutil.which(program, path=path)]
    missing += [] if (FIRMWARE / "AAVMF_CODE.fd").exists() else ["qemu-efi-aarch64"]
    if missing:
        subprocess.run([ROOT / ".ci/install", *missing], check=True)


class BoardError(Exception):
    """The board did not do what was asked."""


class Disk:
    """A copy of an image on a larger disk, with the firmware's variables, in a folder."""

    def __init__(self, image, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "disk.img"
        self.variables = self.folder / "variables.fd"
        subprocess.run(["cp", "--sparse=always", image, self.path], check=True)
        subprocess.run(["cp", FIRMWARE / "AAVMF_VARS.fd", self.variables], check=True)
        os.truncate(self.path, self.path.stat().st_size + GROWTH_BYTES)
        self.key = self.folder / "key"
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "virtual-board", "-f", self.key], check=True)

    @classmethod
    def kept(cls, folder):
        """Takes the disk that an earlier run left in a folder."""
        disk = cls.__new__(cls)
        disk.folder = pathlib.Path(folder)
        disk.path, disk.variables, disk.key = disk.folder / "disk.img", disk.folder / "variables.fd", disk.folder / "key"
        return disk

    def copy(self, folder):
        """Returns a copy of this disk, with the variables of its firmware, in a folder."""
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        for file in (self.path, self.variables, self.key, self.key.with_suffix(".pub")):
            subprocess.run(["cp", "--sparse=always", "--preserve=mode", file, folder], check=True)
        return Disk.kept(folder)

    def settings(self, files):
        """Writes files (name: text) into faceptor/ of the FAT partition."""
        for name, text in files.items():
            command = ["mcopy", "-o", "-i", f"{self.path}@@{SETTINGS_OFFSET}", "-", f"::faceptor/{name}"]
            subprocess.run(command, input=text.encode(), check=True)

    def read_setting(self, name):
        """Returns the text of a file in faceptor/ of the FAT partition, or None."""
        command = ["mtype", "-i", f"{self.path}@@{SETTINGS_OFFSET}", f"::faceptor/{name}"]
        listed = subprocess.run(command, capture_output=True, check=False)
        return listed.stdout.decode().replace("\r", "") if listed.returncode == 0 else None


class Board:
    """One boot, from power on to power off."""

    def __init__(self, disk, memory_mib=1024, verbose=False):
        self.disk = disk
        self.verbose = verbose
        self.lines = []
        self.port = free_port()
        command = ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a76", "-accel", "tcg,thread=multi", "-smp", "2"]
        command += ["-m", str(memory_mib), "-nodefaults", "-display", "none", "-serial", "stdio", "-monitor", "none"]
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}/AAVMF_CODE.fd"]
        command += ["-drive", f"if=pflash,format=raw,file={disk.variables}"]
        # No bootindex: with one, the firmware would order its boot entries anew at each boot. A killed QEMU loses nothing that the
        # kernel of this machine has.
        command += ["-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk.path}", "-device", "virtio-blk-pci,drive=disk"]
        command += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net,romfile="]
        command += ["-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        threading.Thread(target=self.read_console, daemon=True).start()

    def read_console(self):
        for line in self.process.stdout:
            line = line.rstrip()
            self.lines.append(line)
            if self.verbose:
                print(f"  {self.age():5.0f} s  {line}", flush=True)

    def age(self):
        """Seconds since power on."""
        return time.monotonic() - self.started

    def ssh(self, command, options=(), limit_s=300):
        """Runs a command on the board as root. Returns the finished process, with status 255 when there is no connection."""
        words = [*SSH, "-i", self.disk.key, "-o", "IdentitiesOnly=yes", "-p", str(self.port), *options, "root@127.0.0.1", command]
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 255, "", f"no answer in {limit_s} s")

    def put(self, path, board_path, limit_s=1200):
        """Copies a file onto the board."""
        words = [*SSH, "-i", self.disk.key, "-o", "IdentitiesOnly=yes", "-p", str(self.port), "root@127.0.0.1", f"cat >{board_path}"]
        with open(path, "rb") as file:
            done = subprocess.run(words, stdin=file, capture_output=True, text=True, timeout=limit_s, check=False)
        if done.returncode != 0:
            raise BoardError(f"{path} could not be copied to {board_path}: {done.stderr}")

    def forward(self, port, board_port):
        """Brings a port of the board's loopback address to this machine's. Returns the process, which ends with the connection."""
        words = [*SSH, "-i", self.disk.key, "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes", "-p", str(self.port)]
        return subprocess.Popen([*words, "-N", "-L", f"{port}:127.0.0.1:{board_port}", "root@127.0.0.1"], stdin=subprocess.DEVNULL)

    def out(self, command):
        """Returns what a command prints; raises BoardError where it fails."""
        done = self.ssh(command)
        if done.returncode != 0:
            raise BoardError(f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def until(self, what, command, limit_s):
        """Repeats a command until it succeeds, and returns its output; raises BoardError after the limit."""
        end = time.monotonic() + limit_s
        while True:
            done = self.ssh(command, limit_s=120)
            if done.returncode == 0:
                return done.stdout.strip()
            if self.process.poll() is not None:
                raise BoardError(f"the board is off; waited for {what}\n" + "\n".join(self.lines[-20:]))
            if time.monotonic() > end:
                journal = self.ssh("journalctl --boot --lines 60 --priority notice --no-pager", limit_s=120).stdout
                console = "\n".join(self.lines[-20:])
                raise BoardError(f"waited {limit_s} s in vain for {what}: {done.stdout}{done.stderr}\n{console}\n{journal}")
            time.sleep(2)

    def again(self, limit_s, command="systemctl reboot", command_limit_s=60):
        """Starts the board again by a command, and waits for ssh. Returns when another boot than this one answers."""
        before = self.out("cat /proc/sys/kernel/random/boot_id")
        done = self.ssh(command, limit_s=command_limit_s)
        # With 255 the connection ended first.
        if done.returncode not in (0, 255):
            raise BoardError(f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}")
        self.until("the next boot", f"test $(cat /proc/sys/kernel/random/boot_id) != {before}", limit_s)

    def power_off(self, limit_s=180):
        """Shuts down in order."""
        self.ssh("systemctl poweroff", limit_s=60)
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise BoardError(f"still on {limit_s} s after `systemctl poweroff`") from None

    def stop(self):
        """Pulls the plug."""
        self.process.kill()
        self.process.wait()


class Checks:
    """One board's checks; each prints what passed, and when."""

    def __init__(self, machine):
        self.machine = machine

    def check(self, what, holds, shown=""):
        if not holds:
            raise BoardError(f"{what}: {shown}")
        print(f"passed: {what} ({self.machine.age():.0f} s)", flush=True)

    def run(self, what, command, wanted=""):
        """The command succeeds, and its output matches the pattern."""
        text = self.machine.out(command)
        self.check(what, re.search(wanted, text), text)
        return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
