#!/usr/bin/env python3
"""Tests what the image's scripts decide about an update, with stand-ins of systemctl, faceptor and rauc, and folders in place of a board's.

The scripts are those of files/usr/lib/faceptor-image, with other paths. `make deb-test` calls this; it takes seconds and needs no root.
The same decisions on a virtual board: `make image-test`.
"""

import os
import pathlib
import re
import socket
import subprocess
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent / "files/usr/lib/faceptor-image"
STAND_IN = """#!/bin/bash
# What it answers is in files of the folder BOARD; what it was asked goes to `calls`.
name=$(basename "$0")
echo "$name $*" >>"$BOARD/calls"
case "$name $*" in
    "systemctl list-units"*) sed 's/$/ loaded active running/' "$BOARD/active" ;;
    "systemctl --quiet is-active "*) grep -qx "${*: -1}" "$BOARD/active" ;;
    "systemctl show "*) echo 0 ;;
    "journalctl"*) cat "$BOARD/journal" ;;
    "faceptor ctl"*) printf '{"deadline":{"frames":7},"published":%s,"stale":1}\\n' "$(cat "$BOARD/published")" ;;
    "faceptor verify"*) echo "1 of 18 checks failed"; exit "$(cat "$BOARD/verify")" ;;
    "rauc status mark-good") exit "$(cat "$BOARD/rauc")" ;;
    "stat -f"*) cat "$BOARD/filesystem" ;;
    "sleep"*) ;;
esac
"""
OLD, NEW = "1.0-1 20260101", "1.1-1 20260201"


class Board(unittest.TestCase):
    """A folder in place of the board's, in which slot A runs."""

    boots = 0

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        programs = self.folder / "bin"
        programs.mkdir()
        for name in ("systemctl", "journalctl", "faceptor", "rauc", "stat", "sleep", "sync"):
            (programs / name).write_text(STAND_IN)
            (programs / name).chmod(0o755)
        for folder in ("data/update", "run/faceptor-image", "run/faceptor", "lib", "bundle", "pstore"):
            (self.folder / folder).mkdir(parents=True)
        self.write("active", "faceptor.service\n")
        for name, text in {"published": "100", "verify": "0", "rauc": "0", "filesystem": "ext2/ext3", "calls": ""}.items():
            self.write(name, text)
        self.write("journal", "the camera is missing\n")
        self.write("cmdline", "ro quiet\n")
        self.write("lib/reported", OLD)
        self.write("bundle/version", f"{NEW}\n")
        self.start("a", OLD)
        self.listen("faceptor.sock")

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def read(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else None

    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / "run/faceptor" / name))
        self.addCleanup(listener.close)

    def start(self, slot, version):
        """The board starts a slot; the initrd says so."""
        self.boots += 1
        self.write("run/faceptor-image/slot", f"{slot}\n")
        self.write("run/faceptor-image/version", f"{version}\n")
        self.write("boot", f"boot {self.boots}\n")
        if self.read("data/update/pending"):
            self.write("data/update/started", (self.read("data/update/started") or "") + f"{slot}\n")

    def script(self, name, *words):
        text = (SCRIPTS / name).read_text()
        self.assertIn("\nexport PATH=", text)
        text = re.sub(r"(?m)^export PATH=\S+", f"export PATH={self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin", text)
        for path, place in {
            "/proc/sys/kernel/random/boot_id": "boot",
            "/proc/cmdline": "cmdline",
            "/run/faceptor-image": "run/faceptor-image",
            "/run/faceptor/": "run/faceptor/",
            "/var/lib/faceptor-image": "lib",
            "/var/lib/systemd/pstore": "pstore",
            "/data": "data",
        }.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}", f"{self.folder}/{place}", text)
        environment = {**os.environ, "BOARD": str(self.folder), "RAUC_UPDATE_SOURCE": str(self.folder / "bundle")}
        return subprocess.run(["bash", "-c", text, name, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)

    def install(self):
        for name in ("update-check", "update-done"):
            done = self.script(name)
            self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, wanted):
        done = self.script("update-check")
        self.assertEqual(done.returncode, 1)
        self.assertIn(wanted, done.stderr)
        self.assertIn(wanted, self.read("run/faceptor-image/refused"))
        return done

    def result(self, wanted):
        self.assertIn(wanted, self.read("data/update/result") or "")
        self.assertIsNone(self.read("data/update/pending"))
        self.assertIsNone(self.read("lib/reported"), "the report is written again")

    def failed(self, wanted):
        """The new system gives up; afterwards the old one says why."""
        self.write("cmdline", "ro quiet faceptor.ready=1\n")
        done = self.script("mark-good")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("mark-good", self.read("calls"))
        self.assertIn("systemctl reboot", self.read("calls"))
        self.start("a", OLD)
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.result(f"FAILED: version {NEW} in slot b: {wanted}")


class Refusals(Board):
    def test_versions(self):
        for new, now, permitted in [
            (NEW, OLD, True),
            (OLD, OLD, True),
            ("1.0-1 20260102", OLD, True),
            ("0.9-9 20991231", OLD, False),
            ("1.0-1 20251231", OLD, False),
            ("1.0~rc1-1 20260101", OLD, False),
            ("1.10-1 20260101", "1.9-1 20260101", True),
        ]:
            with self.subTest(new=new, now=now):
                self.write("bundle/version", new + "\n")
                self.start("a", now)
                if permitted:
                    self.assertEqual(self.script("update-check").returncode, 0)
                    (self.folder / "data/update/pending").unlink()
                else:
                    self.refused(f"version {new} is older than the running one, {now}")
                    self.assertIsNone(self.read("data/update/pending"))

    def test_an_older_version_when_it_is_permitted(self):
        self.write("bundle/version", "0.9-1 20250101\n")
        self.write("run/faceptor-image/allow-downgrade", "")
        self.install()

    def test_bundles_without_a_version(self):
        for text in ["", "\n", "new\n", "1.0\n", "1.0-1 2026\n", "1.0-1 20260101; reboot\n", "$(reboot) 20260101\n"]:
            with self.subTest(text=text):
                self.write("bundle/version", text)
                self.refused("names no version")
        (self.folder / "bundle/version").unlink()
        self.refused("names no version")

    def test_during_a_trial(self):
        self.install()
        self.start("b", NEW)
        self.refused("on trial")

    def test_without_a_data_partition(self):
        self.write("filesystem", "tmpfs")
        self.refused("data partition cannot be used")

    def test_a_second_bundle_before_the_first_was_tried(self):
        self.install()
        self.write("bundle/version", "1.2-1 20260301\n")
        self.install()
        self.assertIn("version=1.2-1 20260301", self.read("data/update/pending"))


class Examination(Board):
    def test_nothing_is_pending(self):
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.assertIsNone(self.read("data/update/result"))

    def test_good(self):
        self.install()
        self.start("b", NEW)
        done = self.script("mark-good")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rauc status mark-good", self.read("calls"))
        self.result(f"good: version {NEW} in slot b")

    def test_before_the_board_starts_again_nothing_is_decided(self):
        self.install()
        for words in [(), ("late",)]:
            self.assertEqual(self.script("mark-good", *words).returncode, 0)
        self.assertIn("state=installed", self.read("data/update/pending"))
        self.assertIsNone(self.read("data/update/result"))

    def test_a_service_that_is_not_ready(self):
        self.install()
        self.write("active", "")
        self.start("b", NEW)
        self.failed("faceptor.service was not READY after 1 s: the camera is missing")

    def test_a_service_that_said_nothing(self):
        self.install()
        self.write("active", "")
        self.write("journal", "")
        self.start("b", NEW)
        self.failed("faceptor.service was not READY after 1 s. Slot a runs")

    def test_a_second_service_that_is_not_ready(self):
        self.write("active", "faceptor.service\nfaceptor@video2.service\n")
        self.install()
        self.write("active", "faceptor.service\n")
        self.start("b", NEW)
        self.failed("faceptor@video2.service was not READY")

    def test_instances_have_sockets_of_their_own(self):
        self.write("active", "faceptor@video2.service\n")
        self.listen("video2.sock")
        self.install()
        self.start("b", NEW)
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.assertIn("run/faceptor/video2.sock", self.read("calls"))

    def test_too_few_frames(self):
        self.install()
        self.write("published", "99")
        self.start("b", NEW)
        self.failed("faceptor.service had 99 of 100 frames after 1 s")

    def test_a_service_without_a_control_socket(self):
        (self.folder / "run/faceptor/faceptor.sock").unlink()
        self.install()
        self.start("b", NEW)
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.assertIn("sleep 70", self.read("calls"))
        self.result("good")

    def test_no_service_ran_before(self):
        self.write("active", "")
        self.install()
        self.start("b", NEW)
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.assertIn("faceptor verify", self.read("calls"))
        self.result("good")

    def test_verify_fails(self):
        self.install()
        self.write("verify", "1")
        self.start("b", NEW)
        self.failed("faceptor verify: 1 of 18 checks failed")

    def test_rauc_fails(self):
        self.install()
        self.write("rauc", "1")
        self.start("b", NEW)
        done = self.script("mark-good")
        self.assertEqual(done.returncode, 1)
        self.assertIn("RAUC cannot mark the slot good", self.read("data/update/reason"))

    def test_the_examination_takes_too_long(self):
        self.install()
        self.start("b", NEW)
        self.assertEqual(self.script("mark-good", "late").returncode, 1)
        self.assertIn("systemctl reboot --force", self.read("calls"))
        self.start("a", OLD)
        self.script("mark-good")
        self.result("the examination had not ended in time")

    def test_a_start_that_got_no_further(self):
        for panic, wanted in [
            ("", "a hang, or no power"),
            ("<0>[    9.1] Kernel panic - not syncing: No init\n", "Kernel panic - not syncing: No init"),
        ]:
            with self.subTest(panic=panic):
                self.install()
                self.start("b", NEW)
                if panic:
                    self.write("pstore/dmesg-efi-1", panic)
                self.start("a", OLD)
                self.assertEqual(self.script("mark-good").returncode, 0)
                self.result(f"slot b: it started, and the board started again before the examination had ended: {wanted}")

    def test_a_panic_of_an_earlier_day_is_not_named(self):
        self.write("pstore/dmesg-efi-1", "Kernel panic - not syncing: old\n")
        os.utime(self.folder / "pstore/dmesg-efi-1", (1000, 1000))
        self.install()
        self.start("b", NEW)
        self.start("a", OLD)
        self.script("mark-good")
        self.result("a hang, or no power")

    def test_a_system_that_did_not_start(self):
        self.install()
        self.start("a", OLD)
        self.script("mark-good")
        self.result("its kernel or its root did not start")

    def test_an_installation_that_was_cut(self):
        self.assertEqual(self.script("update-check").returncode, 0)
        self.start("a", OLD)
        self.script("mark-good")
        self.result("its installation has not ended")

    def test_power_cut_between_the_firmware_s_choice_and_the_end(self):
        self.assertEqual(self.script("update-check").returncode, 0)
        self.start("b", NEW)
        self.assertEqual(self.script("mark-good").returncode, 0)
        self.result("good")


# The base class has no tests of its own.
del Board

if __name__ == "__main__":
    unittest.main()
