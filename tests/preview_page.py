#!/usr/bin/env python3
"""The preview page in a real browser: headless Chromium, driven over its DevTools pipe.

    tests/preview_page.py [--faceptor target/release/faceptor] [--out FOLDER]

Runs the demo clip with --preview, opens the page and checks that the picture moves, that the table shows the answers,
that a check-box changes what the loop decodes, that nothing is loaded from elsewhere and nothing fails, and what the
page says when the run ends. Screenshots (wide, narrow, ended, marks, empty) are left in FOLDER. Standard library only.
"""

import argparse
import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Browser:
    """Chromium behind `--remote-debugging-pipe`: JSON messages that end with a zero byte, on descriptors 3 and 4."""

    def __init__(self, program, profile):
        (read_commands, self.commands), (self.answers, write_answers) = os.pipe(), os.pipe()

        def connect():
            # Out of the way first: either may be 3 or 4 already.
            ends = os.dup(read_commands), os.dup(write_answers)
            ends = [os.dup2(end, 60 + place) for place, end in enumerate(ends)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                     "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=connect, close_fds=False)
        os.close(read_commands)
        os.close(write_answers)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []

    def receive(self, patience):
        """The next message, or None."""
        end = time.monotonic() + patience
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.answers, 1 << 20)
            if not piece:
                raise SystemExit("preview_page: Chromium has gone")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self.receive(1)
            if answer is None:
                continue
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"preview_page: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise SystemExit(f"preview_page: Chromium did not answer {method}")

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        # Not "complete": the stream of pictures never is.
        self.until("the page opens", f"location.href === {json.dumps(url)} && document.readyState !== 'loading'")

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"preview_page: {expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, what, expression, patience=60):
        end = time.monotonic() + patience
        while not self.value(expression):
            if time.monotonic() > end:
                raise SystemExit(f"preview_page: {what}: not within {patience} s ({expression})")
            time.sleep(0.1)
        print(f"ok: {what}")

    def screenshot(self, path, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(1)
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))

    def close(self):
        self.process.kill()
        self.process.wait()


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    subprocess.run([ROOT / ".ci/install", "chromium"], check=True)
    return "chromium"


def start(faceptor, lines):
    """The demo with a preview on any free port; returns the process and the page's address."""
    command = [faceptor, "run", "--source", "demo", "--frames", "1000000", "--fps", "15", "--json", "--tasks",
               "landmarks,parsing,age,expression,attributes", "--preview", "127.0.0.1:0"]
    run = subprocess.Popen(command, stdout=lines, stderr=subprocess.PIPE, text=True)
    for line in run.stderr:
        found = re.search(r"preview: (http://\S+)", line)
        if found:
            return run, found[1]
    raise SystemExit(f"preview_page: {faceptor} gave no address of a preview")


def newest_frame(path):
    lines = path.read_bytes().split(b"\n")
    return json.loads(lines[-2]) if len(lines) > 1 else {"faces": []}


def until_frames(what, path, so, patience=30):
    end = time.monotonic() + patience
    while not so(newest_frame(path)):
        if time.monotonic() > end:
            raise SystemExit(f"preview_page: {what}: not within {patience} s")
        time.sleep(0.1)
    print(f"ok: {what}")


def check(browser, url, lines, out):
    row = "document.querySelector('tr[data-task=\"%s\"] td')"
    browser.open(url)
    browser.until("the page is live", "document.getElementById('link-text').textContent === 'live'")
    browser.until("the table has the age", f"/^\\d+ years ± \\d+$/.test(({row % 'age'} || {{}}).textContent)")
    for task in ("landmarks", "parsing", "expression", "attributes"):
        browser.until(f"the table has {task}", f"Boolean({row % task})")
    browser.until("the picture is there", "document.getElementById('picture').naturalWidth === 640")
    pixels = """(() => { const c = document.createElement('canvas'); c.width = 64; c.height = 48;
        const p = c.getContext('2d'); p.drawImage(document.getElementById('picture'), 0, 0, 64, 48);
        return p.getImageData(0, 0, 64, 48).data.join(); })()"""
    first = json.dumps(browser.value(pixels))
    browser.until("the picture moves", f"{pixels} !== {first}")
    browser.until("the rate is that of the source", "Math.abs(Number(document.getElementById('rate').textContent) - 15) < 5")
    browser.until("the sparkline has frames", "past.length > 60")
    browser.screenshot(out / "wide.png", 1280, 860)

    box = "document.querySelector('input[name=\"parsing\"]')"
    browser.until("parsing is chosen", f"{box}.checked && !{box}.disabled")
    browser.value(f"{box}.click()")
    until_frames("the loop decodes parsing no more", lines, lambda f: f["faces"] and "parsing" not in f["faces"][0])
    browser.until("its row has gone", f"!{row % 'parsing'} && Boolean({row % 'age'})")
    browser.value("document.querySelector('input[name=\"recognition\"]').click()")
    until_frames("the loop decodes recognition", lines, lambda f: f["faces"] and "recognition" in f["faces"][0])
    browser.until("its row is there", f"Boolean({row % 'recognition'})")
    browser.until("nothing is pending", "!document.querySelector('#tasks .pending')")
    # What this page is for: other programs choose too, and the boxes follow.
    browser.value("fetch('tasks', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{\"tasks\":[\"age\"]}'})"
                  ".then((answer) => answer.status)")
    browser.until("the boxes follow the loop", "boxes().filter((box) => box.checked).map((box) => box.name).join() === 'age'")
    browser.value("boxes().filter((box) => ['landmarks', 'parsing'].includes(box.name)).forEach((box) => box.click())")
    browser.until("two at once", "boxes().filter((box) => box.checked).length === 3 && !wanted")
    browser.screenshot(out / "narrow.png", 390, 1500)


def check_marks(browser, out):
    """What a slower machine shows: answers of earlier frames, deferred tasks, missed deadlines; and no face at all.
    The run has ended, so that frames made up here stay on the page."""
    event = """(() => { const event = structuredClone(newest); const f = event.frame;
        f.faces[0].stale_frames = {parsing: 3}; f.timing_us.decode.parsing = 0;
        f.deadline = {budget_us: 33333, used_us: 30000, missed: false, deferred: ['parsing']}; return event; })()"""
    browser.value(f"""for (let i = 0; i < 150; i += 1) {{ const event = {event};
        event.frame.deadline.used_us = 24000 + 9000 * Math.abs(Math.sin(i / 9)) + (i % 50 === 7 ? 6000 : 0);
        event.frame.deadline.missed = event.frame.deadline.used_us > 33333;
        event.frame.captured_us += 33333 * i; event.frame.frame += i; onFrame({{data: JSON.stringify(event)}}); }}""")
    browser.until("an answer of an earlier frame is marked", "document.querySelector('tr.stale .age-mark')?.textContent === '3 frames old'")
    browser.until("a deferred task is marked", "document.querySelector('label[data-task=parsing].deferred .cost')?.textContent === 'deferred'")
    browser.until("missed deadlines are counted", "Number(document.getElementById('missed').textContent) > 0")
    browser.screenshot(out / "marks.png", 1280, 860)
    browser.value(f"(() => {{ const event = {event}; event.frame.faces = []; onFrame({{data: JSON.stringify(event)}}); }})()")
    browser.until("without a face the page says so", "!document.getElementById('no-face').hidden")
    browser.screenshot(out / "empty.png", 1280, 860)


def check_events(browser, url):
    """Nothing failed, and nothing came from anywhere else."""
    browser.value("1")
    for event in browser.events:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            raise SystemExit(f"preview_page: a script failed: {parameters}")
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            raise SystemExit(f"preview_page: {parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        if event.get("method") == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(url):
            raise SystemExit(f"preview_page: the page asked for {parameters['request']['url']}")
    print("ok: no error, nothing loaded from elsewhere")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--faceptor", default=target / "release/faceptor", type=Path)
    parser.add_argument("--out", default=target / "preview", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    program = chromium()
    with tempfile.TemporaryDirectory(prefix="faceptor-page-", ignore_cleanup_errors=True) as folder:
        lines = Path(folder) / "lines"
        with open(lines, "wb") as file:
            run, url = start(arguments.faceptor.resolve(), file)
        browser = None
        try:
            browser = Browser(program, f"{folder}/profile")
            check(browser, url, lines, arguments.out)
            check_events(browser, url)
            run.terminate()
            run.wait(30)
            browser.until("the page says that the run has ended",
                          "/ended|no connection/.test(document.getElementById('link-text').textContent)")
            browser.screenshot(arguments.out / "ended.png", 1280, 860)
            check_marks(browser, arguments.out)
        finally:
            run.kill()
            run.wait()
            if browser:
                browser.close()
    print(f"screenshots: {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
