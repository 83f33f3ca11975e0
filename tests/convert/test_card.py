from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.convert.card import general_metadata
from plm_edge.errors import InputError, PlmEdgeError

PARAMETERS = 1_825_458_176


def folder(place: Path, card: str = "", name: str = "model", **generation: Any) -> Path:
    path = place / name
    path.mkdir()
    if card:
        (path / "README.md").write_text(card, encoding="utf-8")
    if generation:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


def texts(path: Path) -> dict[str, Any]:
    return {key: value.value for key, value in general_metadata(path, PARAMETERS).items()}


def test_a_bare_folder_gives_its_name_and_size(tmp_path: Path) -> None:
    assert texts(folder(tmp_path)) == {"general.name": "Model", "general.size_label": "1.8B"}


def test_a_speaking_folder_name_is_taken_apart(tmp_path: Path) -> None:
    values = texts(folder(tmp_path, name="PLM-1.8B-Instruct"))
    assert values["general.basename"] == "PLM"
    assert values["general.finetune"] == "Instruct"
    assert values["general.size_label"] == "1.8B"


def test_the_model_card_says_licence_tags_and_languages(tmp_path: Path) -> None:
    card = "---\nlicense: mit\ntags: [chat]\nlanguage:\n- en\n- no\n---\n# PLM\n"
    values = texts(folder(tmp_path, card))
    assert values["general.license"] == "mit"
    assert values["general.tags"] == ["chat"]
    assert values["general.languages"] == ["en", "no"]


def test_sampling_advice_comes_from_the_generation_config(tmp_path: Path) -> None:
    values = texts(folder(tmp_path, temperature=0.6, top_k=20, repetition_penalty=1.05))
    assert values["general.sampling.temp"] == 0.6
    assert values["general.sampling.top_k"] == 20
    assert values["general.sampling.penalty_repeat"] == 1.05


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("---\nlicense: [mit\n---\n", "line 3: the model card's YAML"),
        ("---\na: b: c\n---\n", "line 2: the model card's YAML"),
        ("---\nlicense: 7\n---\n", "general.license would be '7'"),
        ("---\ntags: [1, 2]\n---\n", "general.tags would be"),
        ("---\nbase_model:\n- name: 7\n---\n", "general.base_model.0.name would be '7'"),
        ("---\nmodel_name: [a]\n---\n", "of another kind|would be"),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, card: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        texts(folder(tmp_path, card))
    assert str(tmp_path) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", ["hot", [1], True, 1e300, {"a": 1}])
@pytest.mark.parametrize("key", ["temperature", "top_k", "repetition_penalty"])
def test_sampling_advice_of_a_wrong_kind_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"of a wrong kind|of another kind"):
        texts(folder(tmp_path, **{key: value}))


def test_a_card_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "README.md").write_bytes(b"---\n\xff\n---\n")
    with pytest.raises(PlmEdgeError, match="not UTF-8"):
        texts(path)
