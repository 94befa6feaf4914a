"""The virtual board: QEMU with the kernel and the initrd of fetch.sh, a folder shared with the host, ssh on loopback.

Standard library only. The scripts that run on the board ask the host for help by a line `@host WORD ARGUMENTS` on the
console; the host answers by a file `answers/WORD.ARGUMENTS` in the shared folder.
"""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

CACHE = pathlib.Path(os.environ.get("FACEPTOR_BOARD") or pathlib.Path.home() / ".cache/faceptor-board")


class Machine:
    """One boot, from power on to power off. `shared` holds run.sh and its inputs.

    `counted`: the board's clock counts instructions, one a nanosecond; it has one core then. `folders`: further folders that
    the board may read, by mount tag.
    """

    def __init__(self, shared, cores=2, memory_mib=1024, counted=False, cpu="cortex-a76", folders=None):
        self.shared = pathlib.Path(shared)
        self.ssh_port = free_port()
        # Outside the shared folder, because a socket's path has at most 107 bytes.
        self.private = tempfile.TemporaryDirectory(prefix="board.")
        self.qmp_path = pathlib.Path(self.private.name, "qmp")
        self.lines = []
        self.calls = {"screendump": self.screendump}
        (self.shared / "answers").mkdir(exist_ok=True)
        command = ["qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", cpu, "-accel", f"tcg,thread={'single' if counted else 'multi'}"]
        command += ["-icount", "shift=0,sleep=off"] if counted else []
        command += ["-smp", str(cores), "-m", str(memory_mib), "-nodefaults", "-no-reboot", "-display", "none"]
        command += ["-kernel", CACHE / "vmlinuz", "-initrd", CACHE / "initrd.gz"]
        command += ["-append", "console=ttyAMA0 quiet panic=-1", "-serial", "stdio"]
        command += ["-virtfs", f"local,path={self.shared},mount_tag=host,security_model=none"]
        for tag, folder in (folders or {}).items():
            command += ["-virtfs", f"local,path={folder},mount_tag={tag},security_model=none,readonly=on"]
        command += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"]
        command += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
        command += ["-device", "virtio-gpu-pci", "-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read_console, daemon=True)
        self.reader.start()

    def read_console(self):
        for line in self.process.stdout:
            line = line.rstrip()
            self.lines.append(line)
            word, _, call = line.partition(" ")
            if word != "@host":
                print(f"  {time.monotonic() - self.started:5.1f} s  {line}", flush=True)
                continue
            name, _, rest = call.partition(" ")
            try:
                self.calls[name](*rest.split())
                answer = "done"
            except Exception as error:  # the board is notified of any error, and ends
                answer = f"failed: {error}"
                print(f"board: {call}: {answer}", flush=True)
            (self.shared / "answers" / call.replace(" ", ".")).write_text(answer + "\n")

    def screendump(self, name):
        """Writes a screendump of the board's display as `name`.ppm into the shared folder."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.qmp_path))
            with connection.makefile("rw") as stream:
                stream.readline()
                for execute, arguments in [
                    ("qmp_capabilities", {}),
                    ("screendump", {"filename": str(self.shared / f"{name}.ppm")}),
                ]:
                    stream.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
                    stream.flush()
                    while "return" not in (reply := json.loads(stream.readline())):
                        if "error" in reply:
                            raise RuntimeError(reply["error"]["desc"])

    def wait(self, limit_s):
        """Waits for power off. Returns the exit status of run.sh, or None if the board did not end by itself."""
        try:
            self.process.wait(max(1, limit_s - (time.monotonic() - self.started)))
        except subprocess.TimeoutExpired:
            print(f"board: still on after {limit_s} s", flush=True)
        finally:
            self.stop()
        status = self.shared / "status"
        return int(status.read_text()) if status.exists() else None

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.private.cleanup()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
