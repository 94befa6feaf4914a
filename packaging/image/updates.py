"""Cases of test.py: updates by RAUC, on disks after their first boot, whose slot A runs."""

import contextlib
import functools
import hashlib
import http.server
import os
import pathlib
import re
import tempfile
import threading

import board
import bundle

KILLS = 3
# An emulated board needs minutes for what a real one does in seconds.
SLOW = "faceptor.ready=1200"
NEWER = "9.0-1 20990101"
INSTALL_S = 1800
# The examination of the next system gets a reference with other numbers, as if the program computed wrong ones.
WRONG_REFERENCE = """set -e
cp -r /usr/share/faceptor-image/reference /data/reference
cd /data/reference
before=$(sha256sum task.age.f32 | cut -d' ' -f1)
printf '\\102' | dd of=task.age.f32 bs=1 seek=3 conv=notrunc status=none
sed -i "s/$before/$(sha256sum task.age.f32 | cut -d' ' -f1)/" reference.json
mkdir -p /etc/systemd/system/faceptor-mark-good.service.d
echo '[Service]
BindReadOnlyPaths=/data/reference:/usr/share/faceptor-image/reference' >/etc/systemd/system/faceptor-mark-good.service.d/reference.conf
sync"""
FILE = "/data/update.raucb"
INSTALL = "faceptor update system --no-reboot"


def made(lab, name, **settings):
    """Returns the path of a bundle of the image; makes it where it is missing."""
    path = lab.work / f"{name}.raucb"
    if not path.exists() or path.stat().st_mtime < lab.image.stat().st_mtime:
        bundle.prepare()
        bundle.make(lab.image, path, bundle.own_keys(), **{"version": NEWER, **settings})
    return path


def small(folder, name, **settings):
    """Returns the path of a bundle with images of a few bytes, which no board can boot."""
    with tempfile.TemporaryDirectory(dir=folder) as content:
        for image in ("boot.img", "root.img"):
            (pathlib.Path(content) / image).write_bytes(os.urandom(8192))
        path = pathlib.Path(folder) / f"{name}.raucb"
        bundle.pack(pathlib.Path(content), path, **{"keys": bundle.own_keys(), "version": NEWER, **settings})
    return path


def slot_b(disk):
    """Returns a hash of both partitions of slot B."""
    total = hashlib.sha256()
    found = bundle.partitions(disk.path)
    with open(disk.path, "rb") as file:
        for name in ("boot-b", "root-b"):
            file.seek(found[name][0])
            total.update(file.read(found[name][1]))
    return total.hexdigest()


def start(lab, case):
    """Returns a disk after its first boot, its board, which is READY in slot A, its checks, and what the first boot made.

    A board that an earlier case left in this state is used again: a boot takes minutes.
    """
    if lab.left:
        (disk, machine, stay), lab.left = lab.left, None
        machine.out("rm -f /data/update/result /run/faceptor-image/allow-downgrade")
        return disk, machine, board.Checks(machine), stay
    disk, stay = lab.after_first_boot(case)
    machine = board.Board(disk, verbose=lab.verbose)
    try:
        machine.until("ssh", "true", board.LIMIT_S)
        machine.until("READY", "systemctl is-active faceptor", board.LIMIT_S)
    except BaseException:
        machine.stop()
        raise
    return disk, machine, board.Checks(machine), stay


def install(machine, path):
    """Installs a bundle; returns the seconds that it took. The board does not start again."""
    machine.put(path, FILE)
    began = machine.age()
    done = machine.ssh(f"{INSTALL} {FILE}", limit_s=INSTALL_S)
    if done.returncode != 0:
        raise board.BoardError(f"{INSTALL}: {done.stdout}{done.stderr}\n{machine.ssh('journalctl -u rauc -n 30 -o cat').stdout}")
    took = machine.age() - began
    print(f"passed: installed in {took:.0f} s", flush=True)
    return took


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server of files that prints no line per request."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(path):
    """A web server of this machine for a file's folder; gives the URL that the board's network has for the file."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=path.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        # QEMU's network brings this address to the loopback of the machine that it runs on.
        yield f"http://10.0.2.2:{server.server_port}/{path.name}"
    finally:
        server.shutdown()
        server.server_close()


def result(machine):
    """Waits for the end of the examination and returns its result, the board's slot and version."""
    machine.until("the examination's result", "test -s /data/update/result && test ! -e /data/update/pending", board.LIMIT_S)
    return machine.out("faceptor update system --result; cat /run/faceptor-image/slot /run/faceptor-image/version")


def good(lab, case):
    """A good update switches to slot B, keeps what is on the data partition, and stays."""
    disk, machine, checks, stay = start(lab, case)
    try:
        with served(made(lab, "good", options=SLOW)) as url:
            machine.again(board.LIMIT_S, f"faceptor update system {url}", INSTALL_S)
        checks.check("fetched by http and installed; it starts again by itself", True)
        checks.run("the download is removed", "ls -A /data", r"(?s)^(?!.*faceptor-download)")
        checks.run("the new system started, in slot B, on trial", "cat /run/faceptor-image/slot /run/faceptor-image/version", f"^b\n{NEWER}$")
        text = result(machine)
        checks.check("READY, 100 frames and verify: marked good", f" good: version {NEWER} in slot b" in text, text)
        checks.run("the examination's steps", "journalctl -b -u faceptor-mark-good -o cat", r"(?s)READY.*100 frames.*verify: passed")
        text = machine.out("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
        checks.check("machine number and host key stay", text == stay, text)
        checks.run("files of the data partition stay", "cat /var/lib/faceptor/marker /root/marker", "^kept\nkept$")
        machine.again(board.LIMIT_S)
        checks.run("it stays after another start", "cat /run/faceptor-image/slot /run/faceptor-image/version", f"^b\n{NEWER}$")
        machine.until("the report", "test -s /var/lib/faceptor-image/reported", board.LIMIT_S)
        machine.power_off()
    finally:
        machine.stop()
    report = disk.read_setting("report.txt") or ""
    checks.check("the report names the update", f"good: version {NEWER} in slot b" in report, report)


def refused(lab, case):
    """What must not be installed is refused, and no byte of slot B changes."""
    disk, machine, checks, stay = start(lab, case)
    before = slot_b(disk)
    folder = lab.work / "refused"
    folder.mkdir(exist_ok=True)
    foreign = bundle.own_keys(folder / "foreign")
    whole = small(folder, "whole").read_bytes()
    (folder / "short.raucb").write_bytes(whole[: len(whole) // 2])
    (folder / "one-byte-short.raucb").write_bytes(whole[:-1])
    changed = bytearray(whole)
    changed[5000] ^= 1
    (folder / "changed.raucb").write_bytes(changed)
    (folder / "empty.raucb").write_bytes(b"")
    (folder / "no-bundle.raucb").write_bytes(os.urandom(20000))
    cases = {
        small(folder, "foreign", keys=foreign): "signature|verif",
        folder / "short.raucb": "signature|size|bundle",
        folder / "one-byte-short.raucb": "signature|size|bundle",
        folder / "changed.raucb": "error|failed|mount",
        folder / "empty.raucb": "bundle|size",
        folder / "no-bundle.raucb": "bundle|signature",
        small(folder, "other-board", compatible="faceptor-arm64-other"): "(?i)compatible",
        small(folder, "older", version="0.1-1 20200101"): "older|pre-install",
        small(folder, "no-version", version="none"): "version|pre-install",
    }
    try:
        for path, wanted in cases.items():
            machine.put(path, FILE)
            done = machine.ssh(f"faceptor update system --quiet {FILE}")
            said = done.stderr.partition("is not installed, and the system that runs stays: ")[2].strip()
            holds = done.returncode == 1 and re.search(wanted, said)
            checks.check(f"refused: {path.stem}", holds, f"{done.returncode} {done.stdout}{done.stderr}")
            print(f"        {said}", flush=True)
        checks.run("slot A is still the first choice", "sync; efibootmgr", r"(?s)^(?!.*BootNext).*$")
        checks.run("no installation is complete", "grep -s '^state=installed' /data/update/pending || echo none", "^none$")
        checks.check("no byte of slot B has changed", slot_b(disk) == before)
    except BaseException:
        machine.stop()
        raise
    lab.left = disk, machine, stay


def rolls_back(name, reason, options="", prepare="", report=False):
    """Returns a case: an update that fails in its own way, after which slot A runs again and says why, also in the report if that is
    waited for (minutes)."""

    def case(lab, case):
        disk, machine, checks, stay = start(lab, case)
        try:
            began = len(machine.lines)
            install(machine, made(lab, name, options=options))
            next_one = "cat /run/faceptor-image/slot; efibootmgr"
            checks.run("until it starts again, slot A runs, and B is next for one try", next_one, r"(?s)^a\n.*BootNext")
            if prepare:
                machine.out(prepare)
            machine.again(board.LIMIT_S)
            # Slot B answers first where it gets as far as ssh.
            text = result(machine)
            failed = re.search(rf"FAILED: version {NEWER} in slot b: .*{reason}.*\na\n", text)
            checks.check("slot A runs again, and it is said why", failed, text)
            print(f"        {text.splitlines()[0]}", flush=True)
            if report:
                machine.until("the report", "test -s /var/lib/faceptor-image/reported", board.LIMIT_S)
                text = disk.read_setting("report.txt") or ""
                checks.check("the report says why", re.search(rf"update .*FAILED.*{reason}", text), text)
            machine.until("READY", "systemctl is-active faceptor", board.LIMIT_S)
            checks.check("READY again", True)
            checks.run("slot A is the first choice", "cat /run/faceptor-image/slot; efibootmgr", r"(?s)^a\n(?!.*BootNext)")
            starts = [line for line in machine.lines[began:] if "BdsDxe: starting" in line]
            checks.check("one try of slot B", sum("faceptor-b" in line for line in starts) == 1, starts)
            machine.out("rm -rf /etc/systemd/system/faceptor-mark-good.service.d")
        except BaseException:
            machine.stop()
            raise
        lab.left = disk, machine, stay

    return case


def killed(lab, case):
    """QEMU is killed while an update is installed, at KILLS points of its time; the board then boots a whole system."""
    disk, machine, _, _ = start(lab, case)
    path = made(lab, "good", options=SLOW)
    try:
        took = install(machine, path)
        machine.out(f"rm /data/update/pending; efibootmgr -q -N; sync; test -s {FILE}")
        machine.power_off()
    finally:
        machine.stop()
    kills, slot = 0, ""
    while kills < KILLS:
        machine = board.Board(disk, verbose=lab.verbose)
        try:
            before, slot = slot, boots(machine, f"{kills} kills")
            # Slot B runs where the installation had ended: a kill cuts its trial then, and slot A is next.
            board.Checks(machine).check("one try of slot B", f"{before}{slot}" != "bb")
            if slot == "a":
                machine.out(f"rm -f /data/update/result; sync; systemd-run --quiet {INSTALL} {FILE}")
                board.time.sleep(took * (kills + 0.5) / KILLS)
                kills += 1
        finally:
            machine.stop()
    machine = board.Board(disk, verbose=lab.verbose)
    try:
        boots(machine, "the last kill")
        machine.until("READY", "systemctl is-active faceptor", board.LIMIT_S)
        board.Checks(machine).check("after the last kill: READY", True)
        machine.power_off()
    finally:
        machine.stop()


def boots(machine, after):
    """Waits for ssh; prints what the installation had come to before. Returns the slot, which is whole with its data."""
    machine.until("ssh", "true", board.LIMIT_S)
    text = machine.out("cat /run/faceptor-image/slot /run/faceptor-image/data; cat /data/update/pending /data/update/result 2>/dev/null || true")
    board.Checks(machine).check(f"after {after}: it boots slot A or B, with its data", re.match(r"[ab]\nkept", text), text)
    print("        " + ", ".join(text.splitlines()), flush=True)
    return text[0]


CASES = {
    "update-refused": refused,
    "update-not-ready": rolls_back(
        "not-ready", "faceptor.service was not READY after 60 s", "systemd.mask=faceptor.service faceptor.ready=60", report=True
    ),
    "update-verify": rolls_back("good", r"faceptor verify: \d+ of \d+ checks failed", SLOW, WRONG_REFERENCE),
    "update-panic": rolls_back("panic", "Kernel panic", "init=/usr/bin/false"),
    "update-hang": rolls_back("hang", "a hang, or no power", "init=/usr/bin/cat"),
    "update-killed": killed,
    "update-good": good,
}
