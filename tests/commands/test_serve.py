"""`plm-edge serve` as a user types it, and its web page in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.engine import ui
from plm_edge.engine.cache import Engine
from tests.chat import browser
from tests.chat.browser import ENTER, Browser
from tests.chat.scripted import Script, write_scripted
from tests.chat.serving import serving


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["serve", *words])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "ein Modell ü.gguf")


def test_a_dry_run_prints_the_command_and_starts_nothing(model: Path) -> None:
    shown = run(str(model), "--port", "0", "--parallel", "3", "--ctx", "1000", "--dry-run")
    assert shown.exit_code == 0
    assert f"--model '{model}'" in shown.stdout
    assert "--ctx-size 3000 --parallel 3" in shown.stdout
    words = json.loads(run(str(model), "--port", "0", "--dry-run", "--json").stdout)["command"]
    assert words[words.index("--model") + 1] == str(model)
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_a_server_open_to_the_network_is_warned_about(model: Path, tmp_path: Path) -> None:
    flags = ("--host", "0.0.0.0", "--port", "0", "--dry-run")
    assert "anybody who can reach 0.0.0.0:" in run(str(model), *flags).stderr
    assert "anybody" not in run(str(model), *flags, "--api-key", "k").stderr
    keys = tmp_path / "keys"
    keys.write_text("# mine\nsesame\n")
    guarded = run(str(model), *flags, "--api-key-file", str(keys))
    assert "anybody" not in guarded.stderr
    assert f"--api-key-file {keys}" in guarded.stdout


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (("--api-key", "two words"), 2, "--api-key: expected printable ASCII"),
        (("--api-key", ""), 2, "--api-key: expected printable ASCII"),
        (("--api-key", "k", "--api-key-file", "f"), 2, "pass one of them"),
        (("--api-key-file", "no-such-file"), 1, "no-such-file: cannot read"),
        (("--ctx", "99999999999"), 1, "a context of 199999999998 tokens needs"),
        (("--host", "no.such.host.invalid"), 1, "--host no.such.host.invalid"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    model: Path, flags: tuple[str, ...], status: int, message: str
) -> None:
    done = run(str(model), "--port", "0", *flags)
    assert (done.exit_code, message in done.stderr.splitlines()[0]) == (status, True)
    assert len(done.stderr.splitlines()) <= 2


def test_only_a_plm_is_served(tmp_path: Path) -> None:
    missing = run(str(tmp_path / "nothing.gguf"), "--port", "0")
    assert (missing.exit_code, "cannot read" in missing.stderr) == (1, True)
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    assert "not a GGUF file" in run(str(text), "--port", "0").stderr


def _page_problem() -> str | None:
    if tool := browser.missing_tool():
        return f"{tool} is not installed (apt-get install chromium chromium-driver)"
    return None if ui.is_possible() else "npm is not installed (apt-get install npm nodejs)"


STOP = "[...document.querySelectorAll('button')].find(e => e.innerText.trim() === 'Stop')"
ANSWER = "document.body.innerText.split(arguments[0])[1]?.includes('tick tock')"


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.skipif(_page_problem() is not None, reason=str(_page_problem()))
def test_the_page_types_streams_stops_and_goes_on(engine: Engine, tmp_path: Path) -> None:
    script = Script((" tick", " tock"), loops=True, context_tokens=1 << 16, layers=48)
    file = write_scripted(tmp_path / "clock.gguf", script)
    environment = {"PLM_EDGE_CACHE": str(engine.folder.parent.parent)}
    with (
        serving(file, environment, "--ui") as running,
        Browser(tmp_path / "profile") as window,
    ):
        assert running.page is not None
        window.open(running.page)
        window.wait_for("document.querySelector('textarea')")
        for question in ("What do you say?", "And now?"):
            window.type_into("textarea", question + ENTER)
            window.wait_for(ANSWER.replace("arguments[0]", json.dumps(question)))
            before = len(window.text())
            window.wait_for(f"document.body.innerText.length > {before + 20}")  # it streams
            assert running.busy_slots() == 1
            window.run(f"{STOP}.click()")
            window.wait_for(f"!({STOP})")
        window.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
        assert window.text().index("What do you say?") < window.text().index("And now?")
