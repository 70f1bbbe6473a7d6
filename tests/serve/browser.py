"""Chromium without a window, driven through its pipe: no driver and no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Where it is, if it is anywhere."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. What it logs as an error is gathered in `faults`."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands = commands
        self._events = events
        self._rest = b""
        self._count = 0
        self._session: str | None = None
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """One command, and what it gives."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._count:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._notice(told)

    def _read(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._events], [], [], seconds)[0], "the browser is silent"
            part = os.read(self._events, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told

    def _notice(self, told: dict[str, Any]) -> None:
        values = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(values["exceptionDetails"])[:500])
        elif told.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.faults.append(values["entry"]["text"] + " " + values["entry"].get("url", ""))

    def open(self, address: str, *, width: int = 1200, height: int = 900, **media: str) -> None:
        """Open an address in a window of that size; `media` are features such as dark colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": name.replace("_", "-"), "value": v} for name, v in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def speak(self, language: str) -> None:
        """Which language the browser asks for, such as "zh-CN"."""
        agent = self.call("Browser.getVersion")["userAgent"]
        self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)

    def run(self, script: str) -> Any:
        """What an expression of JavaScript gives, once its promise holds."""
        told = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str, seconds: float = 20) -> None:
        """Wait until an expression is true, on the page that comes if a link is being followed."""
        end = time.monotonic() + seconds
        while not self._holds(script):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.03)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.run(f"Boolean({script})"))
        except AssertionError as error:
            if not any(words in str(error) for words in ("navigated", "context", "null")):
                raise
            return False  # the page before it is gone

    def press(self, key: str, *, control: bool = False, text: str = "") -> None:
        """Press a key, as "Tab" or "Enter"."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}.get(key, 0)
        values: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        values["modifiers"] = 2 if control else 0
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **values, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def choose_file(self, path: Path) -> None:
        """Give the page's field for files a file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, path: Path) -> None:
        """A picture of the whole page as a PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A browser with one tab, and nothing of an earlier one; it ends with the block."""
    program = chromium()
    assert program, "there is no Chromium"
    (theirs_in, commands), (events, theirs_out) = os.pipe(), os.pipe()
    # Its pipe is the files 3 and 4; what lies there now is put out of the way first.
    high_in, high_out = (os.dup2(each, 200 + n) for n, each in enumerate((theirs_in, theirs_out)))
    with tempfile.TemporaryDirectory(prefix="bertolt-browser-") as folder:
        quiet = os.open(os.devnull, os.O_RDWR)
        words = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-sync"]
        words += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run"]
        words += ["--disable-dev-shm-usage", "--disable-background-networking", "about:blank"]
        actions = [(os.POSIX_SPAWN_DUP2, high_in, 3), (os.POSIX_SPAWN_DUP2, high_out, 4)]
        actions += [(os.POSIX_SPAWN_DUP2, quiet, each) for each in (0, 1, 2)]
        process = os.posix_spawn(program, words, os.environ, file_actions=actions)
        for each in (theirs_in, theirs_out, high_in, high_out, quiet):
            os.close(each)
        try:
            yield Page(commands, events)
        finally:
            os.close(commands)
            os.close(events)
            _end(process)


def _end(process: int) -> None:
    """It ends by itself when its pipe is closed; else it is ended."""
    for _ in range(100):
        if os.waitpid(process, os.WNOHANG)[0]:
            return
        time.sleep(0.05)
    os.kill(process, 9)
    os.waitpid(process, 0)
