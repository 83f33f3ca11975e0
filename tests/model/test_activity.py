"""Zero activations counted by the reference are those the model has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.errors import InputError
from plm_edge.model import activity
from plm_edge.model.reference import Reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("activity") / "tiny"
    write_checkpoint(path, SHAPES["tiny"], dtype="f32", seed=4)
    return path


def text_file(folder: Path, words: int) -> Path:
    path = folder / "text.txt"
    path.write_text("the module returns a list " * words, encoding="utf-8")
    return path


def test_shares_are_those_of_the_reference_on_one_window(folder: Path) -> None:
    reference = Reference.from_checkpoint(folder)
    tokens = np.random.default_rng(0).integers(0, 500, 30).tolist()
    found = activity.measure(reference, [tokens])
    shares = [layer.zero_share for layer in found.layers]
    assert shares == pytest.approx(list(reference.zero_fractions(tokens)))
    assert found.tokens == 30
    assert found.zero_share == pytest.approx(sum(shares) / len(shares))


def test_a_neuron_that_one_window_wakes_is_not_never_active(folder: Path) -> None:
    reference = Reference.from_checkpoint(folder)
    first, second = ([1, 2, 3], [7, 8, 9, 10])
    both = activity.measure(reference, [first, second])
    alone = activity.measure(reference, [first])
    for more, less in zip(both.layers, alone.layers, strict=True):
        assert more.never_share < less.never_share
        assert more.never_share <= more.zero_share


def test_a_text_longer_than_a_window_is_cut_into_windows(folder: Path, tmp_path: Path) -> None:
    windows = activity.read_windows(text_file(tmp_path, 200), folder, 16, 100)
    assert [len(window) for window in windows] == [16] * 6 + [4]


def test_an_empty_text_and_one_that_is_not_utf8_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty, expected text"):
        activity.read_windows(text_file(tmp_path, 0), folder, 16, 100)
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"good \xff bad")
    with pytest.raises(InputError, match=r"broken\.txt: not UTF-8 at byte 5"):
        activity.read_windows(broken, folder, 16, 100)
