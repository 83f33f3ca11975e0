"""`plm-edge chat` as a user types it: one question, pipes, plans, and files that are no model."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.engine.cache import Engine
from tests.chat.scripted import Script, write_scripted
from tests.chat.terminal import plm_edge


def run(*words: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["chat", *words], input=stdin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("mödels here") / "ein Modell ü.gguf")


@pytest.fixture
def built(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_CACHE", str(engine.folder.parent.parent))


def ask(model: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = plm_edge("chat", str(model), "--threads", "1", *words)
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


@pytest.mark.engine
def test_one_question_one_answer_on_stdout(model: Path, built: None) -> None:
    done = ask(model, "-p", "hello")
    assert (done.returncode, done.stdout) == (0, b"One two three\n")
    assert done.stderr.decode().splitlines() == [f"loading {model.name} ..."]


@pytest.mark.engine
def test_piped_text_is_the_question(model: Path, built: None) -> None:
    done = ask(model, "--json", stdin="grüße 👋\nzweite Zeile\n".encode())
    document = json.loads(done.stdout)
    assert document["prompt"] == "grüße 👋\nzweite Zeile"
    assert document["answer"] == "One two three"
    assert document["finish"] == "stop"
    assert document["random_weights"] is False
    assert document["stats"]["answer_tokens"] == 3
    assert document["stats"]["cache_bytes_per_token"] == 128
    assert document["sampling"]["seed"] >= 0


@pytest.mark.engine
def test_the_system_prompt_is_part_of_the_prompt(model: Path, built: None) -> None:
    short, long = (
        json.loads(ask(model, "--json", "-p", "x", *extra).stdout)["stats"]["prompt_tokens"]
        for extra in ((), ("--system", "Be kind."))
    )
    assert long == short + len("system\nBe kind.\n") + 2


@pytest.mark.engine
def test_answers_in_a_pipe_are_as_the_model_gave_them(tmp_path: Path, built: None) -> None:
    file = write_scripted(tmp_path / "m.gguf", Script(("\x1b[1m", "bold")))
    assert ask(file, "-p", "x").stdout == b"\x1b[1mbold\n"


@pytest.mark.engine
def test_random_weights_are_called_random(tmp_path: Path, built: None) -> None:
    script = Script(overrides={"plm_edge.random": True})
    file = write_scripted(tmp_path / "random.gguf", script)
    done = ask(file, "-p", "x", "--json")
    assert b"random weights: the answers are noise" in done.stderr
    assert json.loads(done.stdout)["random_weights"] is True


@pytest.mark.engine
def test_a_prompt_larger_than_the_context_says_both_sizes(model: Path, built: None) -> None:
    done = ask(model, "--ctx", "256", stdin=b"x" * 1000)
    assert done.returncode == 1
    assert b"the prompt takes 1019 tokens, but the context holds 256" in done.stderr
    assert done.stdout == b""


@pytest.mark.engine
def test_ctrl_c_ends_one_question_with_what_was_said(tmp_path: Path, built: None) -> None:
    script = Script((" tick", " tock"), loops=True, context_tokens=1 << 18)
    file = write_scripted(tmp_path / "endless.gguf", script)
    words = ("-p", "go", "--threads", "1", "--max-tokens", "250000")
    program = subprocess.Popen(
        plm_edge("chat", str(file), *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdout.read(10) == b" tick tock"
    program.send_signal(signal.SIGINT)
    said, notes = program.communicate(timeout=60)
    assert program.returncode == 130
    assert said.endswith(b"\n")
    assert b"(stopped)" in notes
    assert b"Traceback" not in notes


@pytest.mark.engine
def test_a_reader_that_goes_away_ends_the_answer(tmp_path: Path, built: None) -> None:
    script = Script((" tick", " tock"), loops=True, context_tokens=1 << 18)
    file = write_scripted(tmp_path / "endless.gguf", script)
    words = plm_edge("chat", str(file), "-p", "go", "--threads", "1", "--max-tokens", "250000")
    program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.read(5) == b" tick"
    program.stdout.close()
    assert program.stderr is not None
    assert b"Traceback" not in program.stderr.read()
    program.stderr.close()
    assert program.wait(60) == 141


@pytest.mark.engine
def test_a_narrow_encoding_loses_letters_not_answers(
    tmp_path: Path, built: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    file = write_scripted(tmp_path / "m.gguf", Script(("é", "👋", "!")))
    assert ask(file, "-p", "x").stdout == b"\xe9?!\n"


def test_a_context_beyond_the_training_is_warned_about(model: Path) -> None:
    shown = run(str(model), "--ctx", "5000", "--dry-run")
    assert "--ctx 5000: the model was trained for 4096 tokens" in shown.stderr
    assert "warning" not in run(str(model), "--ctx", "4096", "--dry-run").stderr


def test_a_closed_stdin_is_no_crash(model: Path) -> None:
    command = " ".join(map(shlex.quote, plm_edge("chat", str(model)))) + " <&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, b"there is no stdin" in done.stderr) == (2, True)


@pytest.mark.engine
def test_the_engine_is_quiet_unless_asked(model: Path, built: None) -> None:
    assert b"llama_model_loader" in ask(model, "-p", "x", "--verbose").stderr


def test_a_plan_needs_no_engine_and_loads_nothing(model: Path) -> None:
    plan = json.loads(run(str(model), "--dry-run", "--json", "--cache-type", "q8_0").stdout)
    assert plan["engine"] == "would be built"
    assert plan["context_tokens"] == 4096
    assert plan["cache_bytes"] == 4096 * 68
    assert plan["weight_bytes"] == model.stat().st_size
    assert "context_tokens   4096" in run(str(model), "--dry-run").stdout


@pytest.mark.parametrize(
    ("flags", "stdin", "status", "message"),
    [
        ((), b"", 1, "stdin: nothing to say"),
        ((), b"  \n\n", 1, "stdin: nothing to say"),
        ((), b"abc\xff", 1, "stdin: byte 0xff at offset 3 is not UTF-8"),
        (("-p", ""), b"", 1, "--prompt: nothing to say"),
        (("-p", "x\udcff"), b"", 1, "--prompt: not UTF-8"),
        (("-p", "x", "--temperature", "nan"), b"", 2, "--temperature nan"),
        (("-p", "x", "--top-p", "1.5"), b"", 2, "--top-p 1.5"),
        (("-p", "x", "--seed", "-1"), b"", 2, "--seed -1"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    model: Path, flags: tuple[str, ...], stdin: bytes, status: int, message: str
) -> None:
    done = run(str(model), *flags, stdin=stdin)
    assert (done.exit_code, message in done.stderr.splitlines()[0]) == (status, True)
    assert len(done.stderr.splitlines()) <= 2


def other_architecture(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_files_that_are_no_plm_are_named(tmp_path: Path, model: Path) -> None:
    whole = model.read_bytes()
    contents = {
        "leer.gguf": (b"", "is empty"),
        "text.gguf": (b"hello world", "not a GGUF file"),
        "cut header.gguf": (whole[:200], "ends inside its header"),
        "cut tensors.gguf": (whole[:-100], "ends inside tensor 'blk.0.ffn_down.weight'"),
    }
    for name, (content, message) in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        done = run(str(path), "-p", "x")
        assert (done.exit_code, done.stderr.count("\n") <= 2) == (1, True)
        assert done.stderr.startswith(f"plm-edge: {path}: ")
        assert message in done.stderr
    other_architecture(tmp_path / "llama.gguf")
    assert (
        "architecture is 'llama', expected 'plm'"
        in run(str(tmp_path / "llama.gguf"), "-p", "x").stderr
    )
    assert "cannot read" in run(str(tmp_path / "none.gguf"), "-p", "x").stderr
    assert run(str(tmp_path), "-p", "x").exit_code == 1


@pytest.mark.engine
def test_a_broken_template_is_one_line(tmp_path: Path, built: None) -> None:
    file = write_scripted(tmp_path / "broken.gguf", Script(template="{{ messages[ }}"))
    done = ask(file, "-p", "x")
    assert done.returncode == 1
    assert f"plm-edge: {file}: chat template: line 1:".encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['plm-edge', 'chat', '--help']\n"
        "from plm_edge.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'llama_cpp', 'jinja2', 'prompt_toolkit', 'gguf'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
