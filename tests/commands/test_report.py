"""`plm-edge report` as a user types it, and its page in a real browser."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import rows
from plm_edge.cli import app
from plm_edge.eval import record
from tests.chat.browser import Browser, missing_tool
from tests.quantize.tiny import write_model
from tests.report.examples import evaluation, generation, task


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    rows.write(path, [generation(d, v) for d in (0, 1024) for v in ("edge", "stock")])
    for sha, far in (("5a", 0.0), ("6b", 0.2), ("7c", 0.05)):
        record.write(path, evaluation(sha, divergence=far))
        record.write(path, task(sha))
    return path


def test_a_page_is_written(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    done = run(results, "-o", page, "--title", "Mine")
    assert (done.exit_code, done.stdout.strip()) == (0, str(page))
    assert "<h1>Mine</h1>" in page.read_text(encoding="utf-8")


def test_markdown_and_json_go_to_stdout(results: Path, tmp_path: Path) -> None:
    assert "## Speed over depth" in run(results, "--markdown").stdout
    document = json.loads(run(results, "--json").stdout)
    assert [section["id"] for section in document["sections"]][:2] == ["quality", "speed"]
    target = tmp_path / "r.md"
    assert run(results, "--markdown", "-o", target).stdout.strip() == str(target)
    assert target.read_text(encoding="utf-8").startswith("# plm-edge report")


def test_a_dry_run_writes_nothing(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run(results, "-o", page, "--dry-run")
    assert f"would write {page}" in done.stdout
    assert not page.exists()


def test_half_a_line_is_said_and_shown(results: Path, tmp_path: Path) -> None:
    with results.open("a", encoding="utf-8") as file:
        file.write('{"kind": "ben')
    done = run(results, "-o", tmp_path / "report.html")
    assert done.exit_code == 0
    assert "not a whole JSON line, skipped" in done.stderr


def test_what_makes_no_report_is_refused(results: Path, tmp_path: Path) -> None:
    no_output = run(results)
    assert no_output.exit_code == 2 and "report.html" in no_output.stderr
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", encoding="utf-8")
    nothing = run(empty, "-o", tmp_path / "report.html")
    assert nothing.exit_code == 1 and "no result of bench, eval or tasks" in nothing.stderr
    assert run(tmp_path / "gone.jsonl", "--markdown").exit_code == 1


def _emulate(browser: Browser, width: int, scheme: str) -> None:
    def command(name: str, **parameters: Any) -> None:
        browser._call("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    command("Emulation.setDeviceMetricsOverride", **screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    command("Emulation.setEmulatedMedia", features=[feature])
    command("Emulation.setScriptExecutionDisabled", value=True)


@pytest.mark.slow
@pytest.mark.skipif(missing_tool() is not None, reason=f"needs {missing_tool()}")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(results: Path, tmp_path: Path, width: int, scheme: str) -> None:
    page = tmp_path / "report.html"
    model = write_model(tmp_path / "m.gguf", dtype="q4_0")
    assert run(results, model, "-o", page).exit_code == 0
    with Browser(tmp_path / "profile") as browser:
        _emulate(browser, width, scheme)
        browser.open(page.as_uri())
        assert "Speed over depth" in browser.text() and "not compared" not in browser.text()
        # Tables scroll in their own boxes; the page itself never does sideways.
        assert browser.run("return document.documentElement.scrollWidth") <= width
        sizes = browser.run(
            "return [...document.querySelectorAll('figure svg')].map(s => s.clientWidth)"
        )
        assert len(sizes) >= 4 and all(200 < size <= width for size in sizes)
        paper = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
        colour = "getComputedStyle(document.querySelector('figure svg text')).fill"
        ink = browser.run(f"return {colour}")
        assert ink == ("rgb(27, 31, 36)" if scheme == "light" else "rgb(232, 234, 237)")
        shot = browser._call("GET", "/screenshot")
        assert len(base64.b64decode(shot)) > 10_000
