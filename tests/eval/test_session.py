"""Whole evaluations: the same numbers as llama.cpp's own tool and as plain numpy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from plm_edge import shell
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError
from plm_edge.eval import measure, store, text
from plm_edge.eval.model import EvalModel, Options
from plm_edge.eval.session import Model, Session
from plm_edge.gguf_header import read_header
from tests.eval import small

pytestmark = pytest.mark.engine
CONTEXT = 64
_RUNNING = re.compile(r"\[(\d+)\](\d+\.\d+),")


def session(
    engine: Engine, path: Path, context: int = CONTEXT, limit: int | None = None
) -> Session:
    options = Options(context, threads=1)
    return Session(engine.lib_dir, engine.manifest.key, text.read(path), options, limit)


def model(path: Path) -> Model:
    return Model(read_header(path), path.name)


@pytest.mark.parametrize("context", [512, 64])
@pytest.mark.parametrize(("dtype", "add_bos"), [("f32", False), ("q4_0", True)])
def test_perplexity_is_that_of_llama_cpp_to_four_digits(
    tmp_path: Path, engine: Engine, dtype: str, add_bos: bool, context: int
) -> None:
    """To six digits, where its batches are ours: one window each (-b)."""
    path, words = _model_and_words(tmp_path, dtype, add_bos)
    theirs = _running_perplexity(engine, path, words, context, ("-b", str(context)))
    _require_equal(engine, path, words, context, theirs, 1e-6)


def test_perplexity_is_that_of_llama_cpp_with_its_own_batches(
    tmp_path: Path, engine: Engine
) -> None:
    """By default it computes 2048 tokens at once, and sums are added in another order."""
    path, words = _model_and_words(tmp_path, "f32", add_bos=False)
    theirs = _running_perplexity(engine, path, words, 512, ())
    _require_equal(engine, path, words, 512, theirs, 2e-4)


def _model_and_words(folder: Path, dtype: str, add_bos: bool) -> tuple[Path, Path]:
    words = folder / "words.txt"
    words.write_text(small.TEXT * 5, encoding="utf-8")
    return small.write_model(folder / "m.gguf", dtype=dtype, add_bos=add_bos), words


def _require_equal(
    engine: Engine,
    path: Path,
    words: Path,
    context: int,
    theirs: dict[int, float],
    tolerance: float,
) -> None:
    """Its log may lack its last lines, so every running figure that is there is compared."""
    ours = session(engine, words, context=context, limit=12)
    found = ours.measure(model(path), ours.windows(read_header(path)), None)
    assert max(theirs) >= 6
    for count, value in theirs.items():
        assert np.exp(np.mean(found.surprise[:count])) == pytest.approx(value, rel=tolerance)


def _running_perplexity(
    engine: Engine, path: Path, words: Path, context: int, flags: tuple[str, ...]
) -> dict[int, float]:
    command = [engine.tool("llama-perplexity"), "-m", path, "-f", words, "-c", str(context)]
    rest = ["-t", "1", "--chunks", "12", *flags]
    done = shell.capture([*command, *rest], env=engine.run_environment())
    found = _RUNNING.findall(done.stdout + done.stderr)
    return {int(number): float(value) for number, value in found}


def test_divergence_is_that_of_whole_distributions(
    engine: Engine, small_f32: Path, small_q4: Path, small_text: Path
) -> None:
    ours = session(engine, small_text, limit=3)
    windows = ours.windows(read_header(small_f32))
    rows = ours.reference(model(small_f32), windows)
    found = ours.measure(model(small_q4), windows, rows)
    base, other = (_log_probabilities(engine, path, windows) for path in (small_f32, small_q4))
    true = (np.exp(base) * (base - other)).sum(axis=-1).mean(axis=1)
    assert found.divergence == pytest.approx(true, rel=1e-3)
    agree = (base.argmax(axis=-1) == other.argmax(axis=-1)).mean(axis=1)
    assert found.same_top == pytest.approx(agree)
    assert found.tokens == 3 * 31


def _log_probabilities(engine: Engine, path: Path, windows: text.Windows) -> np.ndarray:
    with EvalModel(read_header(path), engine.lib_dir, Options(CONTEXT)) as loaded:
        found = []
        for window in windows.tokens:
            for _, rows in loaded.logits(window, windows.first):
                wide = rows.astype(np.float64)
                found.append(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))
    return np.stack(found)


def test_a_reference_is_not_computed_twice(
    engine: Engine, small_f32: Path, small_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = session(engine, small_text, limit=2)
    windows = ours.windows(read_header(small_f32))
    first = np.array(ours.reference(model(small_f32), windows))

    def never(*words: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(measure, "filler", never)
    assert (np.array(ours.reference(model(small_f32), windows)) == first).all()
    assert len(list(store.folder().glob("*.npy"))) == 1


def test_windows_longer_than_a_batch_are_judged_whole(
    engine: Engine, small_f32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut into small batches, a window gives the same as in one."""
    path = tmp_path / "t.txt"
    path.write_text(small.TEXT, encoding="utf-8")
    ours = session(engine, path, limit=2)
    windows = ours.windows(read_header(small_f32))
    whole = ours.measure(model(small_f32), windows, None)
    monkeypatch.setattr("plm_edge.eval.model.BATCH_TOKENS", 24)
    pieces = ours.measure(model(small_f32), windows, None)
    assert pieces.surprise == pytest.approx(whole.surprise, rel=1e-4)


def test_logits_that_are_not_numbers_are_refused(
    engine: Engine, small_f32: Path, small_text: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(small_f32.read_bytes())
    place = read_header(broken).tensor("output_norm.weight").offset
    with broken.open("r+b") as file:
        file.seek(place)
        file.write(np.float32(np.nan).tobytes())
    ours = session(engine, small_text, limit=2)
    windows = ours.windows(read_header(broken))
    with pytest.raises(InputError, match=r"broken\.gguf: the model gives logits that are not num"):
        ours.measure(model(broken), windows, None)
    with pytest.raises(InputError, match="not numbers"):
        ours.reference(model(broken), windows)
    assert not store.folder().exists() or list(store.folder().iterdir()) == []


def test_a_reference_with_another_vocabulary_is_refused(
    engine: Engine, small_f32: Path, small_text: Path, tmp_path: Path
) -> None:
    other = small.write_model(tmp_path / "other.gguf", add_bos=True)
    ours = session(engine, small_text)
    windows = ours.windows(read_header(small_f32))
    with pytest.raises(InputError, match=r"other\.gguf: cuts .*text\.txt into other tokens"):
        ours.reference(model(other), windows)


def test_a_cache_whose_blocks_do_not_fit_is_refused(engine: Engine, small_f32: Path) -> None:
    header = read_header(small_f32)
    header.metadata["plm.attention.kv_lora_rank"] = 200
    with pytest.raises(InputError, match="--cache-type q8_0: blocks of 32 values do not fit"):
        EvalModel(header, engine.lib_dir, Options(64, cache_type="q8_0"))
