#!/usr/bin/env python3
"""Tests the slot handlers of slots/ against stand-ins: a program named nvbootctrl, and files in place of a Raspberry Pi's firmware.

A stand-in's `boot` does what the firmware does at a reset. `make deb-test` calls this; it takes seconds and needs no root.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
REDUNDANCY = "RootfsRedundancyLevel-781e084c-a330-417c-b678-38e696380cb9"
NVBOOTCTRL = """#!/bin/bash
# A stand-in: the state is three files, `active`, `current`, and `tries` with the tries that are left of both slots.
cd "$STAND_IN" || exit 9
echo "$*" >>calls
letters=(A B)
case "$*" in
    "-t rootfs dump-slots-info")
        read -r first second <tries
        echo "Current rootfs slot: ${letters[$(cat current)]}"
        echo "Active rootfs slot: ${letters[$(cat active)]}"
        echo "num_slots: 2"
        for slot in 0 1; do
            left=$first; [ $slot = 0 ] || left=$second
            echo "slot: $slot,             retry_count: $left,             status: $([ "$left" -gt 0 ] && echo normal || echo unbootable)"
        done ;;
    "-t rootfs set-active-boot-slot "[01]) [ -e deaf ] || echo "${*: -1}" >active ;;
    "verify")
        read -r first second <tries
        if [ "$(cat current)" = 0 ]; then echo "3 $second" >tries; else echo "$first 3" >tries; fi ;;
    *) echo "Unknown command: $*" >&2; exit 1 ;;
esac
"""


class Handler(unittest.TestCase):
    """Runs one handler in a folder of its own."""

    handler = ""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.environment = dict(os.environ)

    def call(self, *words):
        return subprocess.run([HERE / "slots" / self.handler, *words], env=self.environment, capture_output=True, text=True, check=False)

    def answer(self, *words):
        done = self.call(*words)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")
        return done.stdout.strip()

    def refused(self, wanted, *words):
        done = self.call(*words)
        self.assertEqual((done.returncode, done.stdout), (1, ""), words)
        self.assertIn(wanted, done.stderr)

    def wrong_words(self, known):
        for words in [
            (),
            ("get-primary", "x"),
            ("set-primary",),
            ("set-primary", "z"),
            ("set-primary", ""),
            ("get-state", "7"),
            ("set-state", known),
        ]:
            with self.subTest(words=words):
                done = self.call(*words)
                self.assertEqual(done.returncode, 1)
                self.assertTrue(done.stderr.startswith("slots/"), done.stderr)
        for words in [("set-state", known, "fine"), ("nonsense",), ("set-state", "c", "good")]:
            with self.subTest(words=words):
                self.assertEqual(self.call(*words).returncode, 1)


class Jetson(Handler):
    handler = "nvbootctrl"

    def setUp(self):
        super().setUp()
        program = self.folder / "nvbootctrl"
        program.write_text(NVBOOTCTRL)
        program.chmod(0o755)
        self.environment |= {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "STAND_IN": str(self.folder),
            "FACEPTOR_EFIVARS": str(self.folder / "efivars"),
        }
        (self.folder / "efivars").mkdir()
        self.redundancy(1)
        self.write(active="0", current="0", tries="3 3")

    def write(self, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text + "\n")

    def read(self, name):
        return (self.folder / name).read_text().strip()

    def redundancy(self, level):
        (self.folder / "efivars" / REDUNDANCY).write_bytes(bytes([7, 0, 0, 0, level, 0, 0, 0]))

    def boot(self):
        """The firmware takes the active slot, which loses a try, or the other one when no try is left."""
        tries = [int(word) for word in self.read("tries").split()]
        slot = int(self.read("active"))
        if tries[slot] == 0:
            slot = 1 - slot
        tries[slot] -= 1
        self.write(current=str(slot), active=str(slot), tries=f"{tries[0]} {tries[1]}")

    def test_a_good_update(self):
        self.assertEqual((self.answer("get-primary"), self.answer("get-current")), ("a", "a"))
        self.answer("set-state", "b", "bad")
        self.assertEqual(self.answer("get-primary"), "a", "the other slot is not the choice while it is written")
        self.answer("set-primary", "b")
        self.assertEqual((self.answer("get-primary"), self.answer("get-current")), ("b", "a"))
        self.boot()
        self.assertEqual((self.answer("get-current"), self.read("tries")), ("b", "3 2"))
        self.answer("set-state", "b", "good")
        self.assertEqual(self.read("tries"), "3 3")

    def test_a_failed_examination_names_the_old_slot(self):
        self.answer("set-primary", "b")
        self.boot()
        self.answer("set-state", "b", "bad")
        self.boot()
        self.assertEqual(self.answer("get-current"), "a")

    def test_a_system_that_never_gets_so_far_is_left_after_three_tries(self):
        self.answer("set-primary", "b")
        for _ in range(3):
            self.boot()
            self.assertEqual(self.read("current"), "1")
        self.boot()
        self.assertEqual((self.answer("get-current"), self.answer("get-state", "b"), self.answer("get-state", "a")), ("a", "bad", "good"))
        self.refused("unbootable", "set-primary", "b")

    def test_a_board_without_two_roots_is_refused(self):
        self.redundancy(0)
        self.refused("RootfsRedundancyLevel is 0", "set-primary", "b")
        (self.folder / "efivars" / REDUNDANCY).write_bytes(b"")
        self.refused("RootfsRedundancyLevel is empty", "set-primary", "b")
        (self.folder / "efivars" / REDUNDANCY).unlink()
        self.refused("no variable RootfsRedundancyLevel", "set-primary", "b")
        self.assertEqual(self.read("active"), "0")

    def test_a_choice_that_is_not_taken_is_noticed(self):
        self.write(deaf="")
        self.refused("names slot a as active", "set-primary", "b")

    def test_without_the_program(self):
        (self.folder / "nvbootctrl").unlink()
        self.refused("dump-slots-info failed", "get-primary")

    def test_marking_the_other_slot_good_uses_no_try(self):
        self.answer("set-state", "b", "good")
        self.assertNotIn("verify", self.read("calls"))

    def test_wrong_words(self):
        self.wrong_words("a")


class RaspberryPi(Handler):
    handler = "tryboot"

    def setUp(self):
        super().setUp()
        self.autoboot = self.folder / "autoboot.txt"
        self.parameter = self.folder / "run" / "reboot-param"
        (self.folder / "chosen").mkdir()
        self.environment |= {
            "FACEPTOR_AUTOBOOT": str(self.autoboot),
            "FACEPTOR_CHOSEN": str(self.folder / "chosen"),
            "FACEPTOR_REBOOT_PARAM": str(self.parameter),
            "FACEPTOR_SLOT_STATE": str(self.folder / "state" / "tryboot"),
        }
        self.autoboot.write_text("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n")
        self.boot()

    def boot(self, words_survive=True):
        """The firmware takes the partition of [tryboot] once, after a reboot with these words."""
        words = self.parameter.read_text().strip() if words_survive and self.parameter.exists() else ""
        self.parameter.unlink(missing_ok=True)
        numbers = [line.split("=")[1].strip() for line in self.autoboot.read_text().splitlines() if line.startswith("boot_partition")]
        self.running = int(numbers[1 if words == "0 tryboot" else 0])
        (self.folder / "chosen" / "partition").write_bytes(self.running.to_bytes(4, "big"))

    def test_a_good_update(self):
        self.assertEqual((self.answer("get-primary"), self.answer("get-current")), ("2", "2"))
        self.answer("set-state", "3", "bad")
        self.assertEqual(self.answer("get-state", "3"), "bad")
        self.answer("set-primary", "3")
        self.assertEqual(self.answer("get-primary"), "3")
        self.boot()
        self.assertEqual(self.answer("get-current"), "3")
        self.answer("set-state", "3", "good")
        self.assertEqual((self.answer("get-primary"), self.answer("get-state", "3")), ("3", "good"))
        self.boot()
        self.assertEqual(self.running, 3, "it stays")

    def test_a_system_that_is_not_marked_good_has_one_try(self):
        self.answer("set-primary", "3")
        self.boot()
        self.assertEqual(self.running, 3)
        self.boot()
        self.assertEqual(self.running, 2)

    def test_power_that_is_cut_before_the_try_leaves_the_old_system(self):
        self.answer("set-primary", "3")
        self.boot(words_survive=False)
        self.assertEqual(self.running, 2)

    def test_the_choice_can_be_taken_back(self):
        self.answer("set-primary", "3")
        self.answer("set-primary", "2")
        self.assertEqual(self.answer("get-primary"), "2")
        self.answer("set-primary", "3")
        self.answer("set-state", "3", "bad")
        self.boot()
        self.assertEqual(self.running, 2)

    def test_marking_the_running_slot_good_changes_nothing(self):
        before = self.autoboot.read_text()
        self.answer("set-state", "2", "good")
        self.answer("set-state", "3", "good")
        self.assertEqual(self.autoboot.read_text(), before, "a slot that does not run cannot become permanent")

    def test_line_ends_of_windows(self):
        self.autoboot.write_bytes(self.autoboot.read_bytes().replace(b"\n", b"\r\n"))
        self.assertEqual(self.answer("get-primary"), "2")

    def test_a_wrong_autoboot_file(self):
        for text, wanted in [
            ("", "must name two boot partitions"),
            ("[all]\ntryboot_a_b=1\nboot_partition=2\n", "must name two boot partitions"),
            ("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n", "must name two boot partitions"),
            ("[all]\ntryboot_a_b=1\nboot_partition=x\n[tryboot]\nboot_partition=3\n", "must name two boot partitions"),
            ("[all]\nboot_partition=2\n[tryboot]\nboot_partition=3\n", "no line tryboot_a_b=1"),
        ]:
            with self.subTest(text=text):
                self.autoboot.write_text(text)
                self.refused(wanted, "set-primary", "3")
        self.autoboot.unlink()
        self.refused("is missing", "get-primary")

    def test_an_old_firmware_that_names_no_partition(self):
        (self.folder / "chosen" / "partition").unlink()
        self.refused("update it", "get-current")
        self.refused("update it", "set-state", "3", "good")

    def test_wrong_words(self):
        self.wrong_words("2")


# The base class has no handler of its own.
del Handler

if __name__ == "__main__":
    unittest.main()
