"""Headless Chromium through ChromeDriver's own HTTP interface (W3C WebDriver), nothing between."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key the standard names elements by
ENTER = "\ue007"

# No screen, no root sandbox, and none of the connections a browser makes on its own account.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,800",
)


def missing_tool() -> str | None:
    """The first program that a browser test needs and this machine lacks."""
    return next((name for name in ("chromium", "chromedriver") if not shutil.which(name)), None)


class Browser:
    """One browser window; use as a context manager."""

    def __init__(self, profile: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._session = ""
        self._wait_for_driver()
        arguments = [*FLAGS, f"--user-data-dir={profile}"]
        chrome = {"binary": shutil.which("chromium"), "args": arguments}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": chrome}}}
        self._session = "/session/" + self._call("POST", "/session", wanted)["sessionId"]

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value a piece of JavaScript returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        """All text the page shows."""
        return str(self.run("return document.body.innerText"))

    def type_into(self, selector: str, text: str) -> None:
        """Type into the element a CSS selector finds."""
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click the element a CSS selector finds."""
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def wait_for(self, script: str, seconds: float = 60) -> Any:
        """The first true value of a JavaScript expression."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(f"return {script}"):
                return value
            time.sleep(0.1)
        raise AssertionError(f"{script} not true within {seconds} s; the page:\n{self.text()}")

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def _find(self, selector: str) -> str:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def _wait_for_driver(self) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except URLError:
                time.sleep(0.1)
        raise AssertionError("chromedriver does not start")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._root + self._session + path, data, method=method)
        try:
            with urlopen(request, timeout=90) as reply:
                return json.load(reply)["value"]
        except HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:500]}") from error

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._call("DELETE", "")
        self._driver.terminate()
        self._driver.wait()
