from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plm_edge.convert import pretokenizer
from plm_edge.convert.pretokenizer import NAMES, QWEN2, recognize
from plm_edge.errors import InputError

PATH = Path("tokenizer.json")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
WITH_REGEX = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def split(regex: str) -> dict[str, Any]:
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def test_plms_own_regex_is_qwen2() -> None:
    qwen2 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    assert qwen2 == QWEN2
    assert recognize(sequence(split(qwen2), BYTES), False, PATH) == "qwen2"


def test_line_ends_may_be_spelled_either_way() -> None:
    spelled = QWEN2.replace(r"\r\n", "\r\n")
    assert recognize(sequence(split(spelled), BYTES), False, PATH) == "qwen2"


def test_gpt_2_needs_no_split() -> None:
    assert recognize(WITH_REGEX, False, PATH) == "gpt-2"


def test_digits_before_gpt_2_are_smollms() -> None:
    digits = {"type": "Digits", "individual_digits": True}
    assert recognize(sequence(digits, WITH_REGEX), False, PATH) == "smollm"


def test_whole_words_before_merges_make_another_name() -> None:
    parts = sequence(split(pretokenizer.LLAMA3), BYTES)
    assert recognize(parts, True, PATH) == "llama-bpe"
    assert recognize(parts, False, PATH) == "smaug-bpe"


@pytest.mark.parametrize(
    "parts",
    [
        sequence(split(r"\w+"), BYTES),
        sequence(split(QWEN2)),
        sequence({**split(QWEN2), "behavior": "Removed"}, BYTES),
        sequence({**split(QWEN2), "invert": True}, BYTES),
        sequence({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}, BYTES),
        {"type": "Metaspace"},
        {"type": "Sequence", "pretokenizers": 7},
        ["Sequence"],
        None,
        7,
    ],
)
def test_an_unknown_split_is_refused_with_the_list(parts: Any) -> None:
    with pytest.raises(InputError, match=r"is none that llama\.cpp has; known: ") as caught:
        recognize(parts, False, PATH)
    assert all(name in caught.value.message for name in NAMES)


def test_a_leading_space_that_llama_cpp_does_not_add_is_refused() -> None:
    with pytest.raises(InputError, match="add_prefix_space = true"):
        recognize({**WITH_REGEX, "add_prefix_space": True}, False, PATH)
