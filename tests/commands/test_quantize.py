"""`plm-edge quantize` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import machine
from plm_edge.cli import app
from plm_edge.commands import _search
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from plm_edge.eval.collect import Collector
from plm_edge.eval.model import EvalModel
from plm_edge.eval.perturb import Perturbed
from plm_edge.gguf_header import GgufHeader, read_header
from tests.eval import small
from tests.quantize.tiny import write_model


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["quantize", *map(str, words)])


@pytest.fixture
def use_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "current", lambda *words: engine)
    # More threads than free cores spin: seconds instead of milliseconds on a busy machine.
    monkeypatch.setattr(machine, "usable_cores", lambda *words: 1)


def test_dry_run_says_the_size_to_the_byte_and_writes_nothing(
    tmp_path: Path, use_engine: None
) -> None:
    source, target = write_model(tmp_path / "in.gguf"), tmp_path / "out.gguf"
    dry = run(source, "-o", target, "--recipe", "q4", "--dry-run", "--json")
    assert dry.exit_code == 0
    promised = json.loads(dry.stdout)
    assert os.listdir(tmp_path) == ["in.gguf"]
    assert (promised["written"], promised["random_weights"]) == (False, True)
    done = run(source, "-o", target, "--recipe", "q4", "--json")
    assert done.exit_code == 0, done.stderr
    assert target.stat().st_size == promised["file_bytes"]
    assert json.loads(done.stdout)["groups"] == promised["groups"]


def test_the_table_ends_with_what_was_written(tmp_path: Path, use_engine: None) -> None:
    source, target = write_model(tmp_path / "in é.gguf"), tmp_path / "out ü.gguf"
    done = run(source, "-o", target, "--recipe", "q4-k", "--threads", "1")
    assert done.exit_code == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"wrote {target}: {target.stat().st_size:,} bytes, ")
    assert "random weights" in last
    assert "ffn_down.weight" in done.stdout


def test_fallbacks_are_said(tmp_path: Path) -> None:
    from tests.quantize.test_quantizer import NARROW

    source = write_model(tmp_path / "in.gguf", shape=NARROW)
    dry = run(source, "-o", tmp_path / "out.gguf", "--recipe", "q4", "--dry-run")
    assert "token_embd.weight: rows do not divide into blocks of q6_K" in dry.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9000]), "ends inside tensor"),
        (lambda path: path.write_bytes(path.read_bytes()[:999]), "ends inside its header"),
        (lambda path: path.write_bytes(b"PK\3\4" * 99), "is not a GGUF file"),
        (lambda path: path.unlink(), "cannot read: No such file"),
        (lambda path: write_model(path, architecture="qwen3"), "architecture 'qwen3'"),
        (lambda path: write_model(path, dtype="q4_0"), "is q4_0 already"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, damage: object, message: str) -> None:
    source = write_model(tmp_path / "in.gguf")
    damage(source)  # type: ignore[operator]
    result = run(source, "-o", tmp_path / "new" / "out.gguf", "--recipe", "q8")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"plm-edge: {source}: ")
    assert message in result.stderr.splitlines()[0]
    assert not (tmp_path / "new").exists()


def test_an_unknown_recipe_is_one_line(tmp_path: Path) -> None:
    source = write_model(tmp_path / "in.gguf")
    result = run(source, "-o", tmp_path / "out.gguf", "--recipe", "q5")
    assert result.exit_code == 1
    assert "plm-edge: no recipe named 'q5'\nhint: " in result.stderr


def test_a_users_own_recipe_is_found(tmp_path: Path, own_folders: Path, use_engine: None) -> None:
    folder = own_folders / "config" / "quant"
    folder.mkdir(parents=True)
    text = 'schema = 1\ndescription = "mine"\ntype = "q5_0"\n'
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    source, target = write_model(tmp_path / "in.gguf"), tmp_path / "out.gguf"
    assert run(source, "-o", target, "--recipe", "mine").exit_code == 0
    assert read_header(target).by_name["blk.0.ffn_up.weight"].type == "q5_0"


# Searches


@pytest.fixture
def small_f16(tmp_path: Path) -> tuple[Path, Path]:
    text = tmp_path / "text.txt"
    text.write_text(small.TEXT, encoding="utf-8")
    return small.write_model(tmp_path / "small.f16.gguf", dtype="f16"), text


def test_a_search_writes_a_file_its_recipe_and_what_runs_it_again(
    small_f16: tuple[Path, Path], tmp_path: Path, use_engine: None
) -> None:
    source, text = small_f16
    target, again = tmp_path / "out.gguf", tmp_path / "again.gguf"
    words = ("--bpw", "4.8", "--text", text, "--windows", "2", "--types", "q3_K,q4_K,q8_0")
    done = run(source, "-o", target, *words, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert target.stat().st_size == found["file_bytes"] <= found["budget_bytes"]
    assert found["bits_per_weight"] <= 4.8
    assert found["bound"] <= found["foretold_divergence"]
    assert -1 <= found["proxy_rank_correlation"] <= 1
    recipe, importance = Path(found["recipe"]), Path(found["imatrix"])
    done = run(source, "-o", again, "--recipe", recipe, "--imatrix", importance)
    assert done.exit_code == 0, done.stderr
    assert again.read_bytes() == target.read_bytes()


# What a search does, killed when it begins one of these steps for the so-and-so-manieth time.
KILLED = """
import os, signal, sys
from pathlib import Path
from plm_edge import results
from plm_edge.bench import machine
from plm_edge.cli import app
from plm_edge.commands import _search
from plm_edge.engine import build, cache
from plm_edge.quantize import imatrix, quantizer

folder, (step, left), is_large, *words = Path(sys.argv[1]), sys.argv[2].split(), *sys.argv[3:]
build.current = lambda *_: cache.load(folder)
machine.usable_cores = lambda *_: 1
if is_large == "large":
    _search._LARGE_BYTES = 1
owner, name = {"importance": (imatrix, "write"), "measurement": (results, "append"),
               "file": (quantizer, "run")}[step]
real, left = getattr(owner, name), int(left)

def until_killed(*args, **named):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)

setattr(owner, name, until_killed)
app(["quantize", *words])
"""


@pytest.mark.parametrize(
    ("step", "is_large", "windows", "measured"),
    [
        ("importance 3", False, 3, 15),
        ("importance 3", True, 6, 15),
        ("measurement 4", False, 0, 12),
        ("measurement 4", True, 0, 12),
        ("file 1", True, 0, 15),  # while the 8-bit file is made
        ("file 16", False, 0, 0),  # while the result is written: 15 matrices are measured before
    ],
)
def test_a_killed_search_goes_on_where_it_was(
    small_f16: tuple[Path, Path],
    tmp_path: Path,
    use_engine: None,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    is_large: bool,
    windows: int,
    measured: int,
) -> None:
    source, text = small_f16
    words = ["--bpw", "5", "--text", str(text), "--windows", "2", "--measure", "probe"]
    target = tmp_path / "out.gguf"
    size = "large" if is_large else "small"
    head = [sys.executable, "-c", KILLED, str(engine.folder), step, size]
    dead = subprocess.run([*head, str(source), "-o", str(target), *words], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert not target.exists()

    if is_large:
        monkeypatch.setattr(_search, "_LARGE_BYTES", 1)
    read, divergences = _counted(monkeypatch)
    done = run(source, "-o", target, *words)
    assert done.exit_code == 0, done.stderr
    assert (len(read), len(divergences)) == (windows, measured)
    monkeypatch.setenv("PLM_EDGE_CACHE", str(tmp_path / "another cache"))
    assert run(source, "-o", tmp_path / "whole.gguf", *words).exit_code == 0
    assert target.read_bytes()[-1000:] == (tmp_path / "whole.gguf").read_bytes()[-1000:]


def _counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], list[object]]:
    """Windows read for importance, and divergences measured, from now on."""
    read: list[object] = []
    divergences: list[object] = []
    clear, divergence = Collector.clear, Perturbed._divergence

    def counted_clear(self: Collector) -> None:
        read.append(self)
        clear(self)

    def counted_divergence(self: Perturbed, model: EvalModel) -> float:
        divergences.append(model)
        return divergence(self, model)

    monkeypatch.setattr(Collector, "clear", counted_clear)
    monkeypatch.setattr(Perturbed, "_divergence", counted_divergence)
    return read, divergences


def test_a_search_with_importance_of_ones_own(
    small_f16: tuple[Path, Path], tmp_path: Path, use_engine: None
) -> None:
    source, text = small_f16
    words = ["imatrix", source, "--text", text, "-o", tmp_path / "i.gguf", "--ctx", "64"]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    words = ["--bpw", "5", "--text", text, "--windows", "2", "--measure", "probe", "--json"]
    done = run(source, "-o", tmp_path / "o.gguf", *words, "--imatrix", tmp_path / "i.gguf")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["imatrix"] == str(tmp_path / "i.gguf")


def test_another_size_is_found_without_measuring(
    small_f16: tuple[Path, Path],
    tmp_path: Path,
    use_engine: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, text = small_f16
    words = ("--text", text, "--windows", "2", "--measure", "probe")
    assert run(source, "-o", tmp_path / "out.gguf", *words, "--bpw", "5").exit_code == 0
    read, divergences = _counted(monkeypatch)
    assert run(source, "-o", tmp_path / "other.gguf", *words, "--bpw", "4").exit_code == 0
    assert read == divergences == []


def test_a_large_file_is_measured_on_its_8_bit_version(
    small_f16: tuple[Path, Path],
    tmp_path: Path,
    use_engine: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, text = small_f16
    words = ("--bpw", "5", "--text", text, "--windows", "2", "--measure", "probe", "--json")
    plain = json.loads(run(source, "-o", tmp_path / "a.gguf", *words).stdout)
    monkeypatch.setattr(_search, "_LARGE_BYTES", 1)
    monkeypatch.setenv("PLM_EDGE_CACHE", str(tmp_path / "cache"))
    left = tmp_path / "cache" / "search" / "another" / ".base.q8_0.gguf.x1.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"what a killed search left")
    probed, bases = _search.Searcher.probed, []

    def noted(self: _search.Searcher) -> GgufHeader:
        header = probed(self)
        bases.append(header.by_name["blk.0.ffn_up.weight"].type)
        return header

    monkeypatch.setattr(_search.Searcher, "probed", noted)
    large = json.loads(run(source, "-o", tmp_path / "b.gguf", *words).stdout)
    assert large["foretold_divergence"] == pytest.approx(plain["foretold_divergence"], rel=0.4)
    assert bases == ["q8_0"]
    # Nothing large stays: not this search's file, not what a killed one had left.
    assert not list((tmp_path / "cache").rglob("*base.q8_0*"))


@pytest.mark.parametrize("method", ["luc", "luc-robust"])
def test_edge_llms_rule_keeps_the_budget_too(
    small_f16: tuple[Path, Path], tmp_path: Path, use_engine: None, method: str
) -> None:
    source, text = small_f16
    words = ("--bpw", "5.2", "--text", text, "--windows", "2", "--measure", "probe")
    done = run(source, "-o", tmp_path / "out.gguf", *words, "--method", method, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file_bytes"] <= found["budget_bytes"]
    assert found["bound"] <= found["foretold_divergence"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--budget", "9kB"], 1, "no file of 9,000 bytes can be made: the smallest"),
        (["--budget", "x"], 2, "--budget 'x': expected a size"),
        (["--budget", "1GB", "--bpw", "4"], 2, "pass one of --recipe, --budget, --bpw, --for"),
        ([], 2, "pass one of --recipe, --budget, --bpw, --for"),
        (["--for", "host"], 1, "device host: its profile does not say how much memory"),
        (["--bpw", "5", "--types", "q9"], 1, "type 'q9': expected one of"),
        (["--bpw", "5", "--measure", "some"], 2, "--measure some: expected all, probe or auto"),
        (["--bpw", "5", "--method", "best"], 2, "--method best: expected search, luc"),
        (["--recipe", "absent.toml"], 1, "absent.toml: cannot read"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    small_f16: tuple[Path, Path],
    tmp_path: Path,
    use_engine: None,
    words: list[str],
    code: int,
    said: str,
) -> None:
    source, text = small_f16
    done = run(source, "-o", tmp_path / "out.gguf", "--text", text, *words)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out.gguf").exists()


def test_importance_of_another_model_is_refused(
    small_f16: tuple[Path, Path], tmp_path: Path, use_engine: None
) -> None:
    source, text = small_f16
    other = small.write_model(tmp_path / "other.gguf", seed=7)
    words = ["imatrix", other, "--text", text, "-o", tmp_path / "i.gguf", "--ctx", "64"]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    for flags in (("--recipe", "q4"), ("--bpw", "5", "--text", text)):
        done = run(source, "-o", tmp_path / "o.gguf", *flags, "--imatrix", tmp_path / "i.gguf")
        assert (done.exit_code, "measured on another model" in done.stderr) == (1, True)


def test_dry_run_of_a_search_says_what_is_reachable(
    small_f16: tuple[Path, Path], tmp_path: Path
) -> None:
    source, text = small_f16
    words = ("--for", "rpi5", "--ctx", "64", "--text", text, "--dry-run", "--json")
    done = run(source, "-o", tmp_path / "out.gguf", *words)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["budget_bytes"] > found["smallest_bytes"] > 100_000
    assert "rpi5: 75% of" in found["why"]
