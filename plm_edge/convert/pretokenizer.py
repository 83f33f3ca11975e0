"""Recognizes a byte-level BPE's pre-tokenizer from its own regex, by the name llama.cpp has for it.

Upstream hashes the ids of a test sentence, which knows only vocabularies somebody has listed; the
regex is what matters, and it is in `tokenizer.json`, so a newly trained tokenizer converts too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plm_edge.errors import InputError

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _SIGNS + _TAIL
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
)
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)

_BYTES = "bytes"
_GPT2 = "bytes with GPT-2's regex"
_DIGITS = "single digits"

# (steps, whether a whole word in the vocabulary beats the merges) to llama.cpp's name. Splits that
# llama.cpp only approximates (gpt-4o's and tekken's, with combining marks) are left out on purpose.
_KNOWN: dict[tuple[tuple[str, ...], bool], str] = {
    ((QWEN2, _BYTES), False): "qwen2",
    ((QWEN35, _BYTES), False): "qwen35",
    ((LLAMA3, _BYTES), True): "llama-bpe",
    ((LLAMA3, _BYTES), False): "smaug-bpe",
    ((_GPT2,), False): "gpt-2",
    ((_DIGITS, _GPT2), False): "smollm",
    ((*DEEPSEEK3, _BYTES), False): "deepseek-v3",
}
NAMES = tuple(_KNOWN.values())

# What `vocab.json` + `merges.txt` leave to the tokenizer's class.
_CLASSES = {"Qwen2Tokenizer": "qwen2", "GPT2Tokenizer": "gpt-2"}


def recognize(pre_tokenizer: Any, ignore_merges: bool, path: Path) -> str:
    """llama.cpp's name for tokenizer.json's `pre_tokenizer`, or an `InputError` with the list."""
    steps = tuple(_step(part, path) for part in _parts(pre_tokenizer))
    name = _KNOWN.get((steps, ignore_merges))
    if name is None:
        shown = " + ".join(step if len(step) < 60 else step[:57] + "..." for step in steps)
        also = ", ignore_merges = true" if ignore_merges else ""
        raise InputError(
            f"{path}: pre_tokenizer ({shown or 'none'}{also}) is none that llama.cpp has; "
            f"known: {', '.join(sorted(NAMES))}",
            hint="train the tokenizer with Qwen2's regex, as PLM's is",
        )
    return name


def of_class(tokenizer_class: Any, path: Path) -> str:
    """The pre-tokenizer a tokenizer class stands for, where there is no tokenizer.json."""
    name = _CLASSES.get(str(tokenizer_class).removesuffix("Fast"))
    if name is None:
        raise InputError(
            f"{path}: tokenizer_class = {str(tokenizer_class)[:80]!r} without a tokenizer.json, "
            f"expected one of {', '.join(_CLASSES)}",
            hint="save the tokenizer again with a current transformers: it writes tokenizer.json",
        )
    return name


def _parts(pre_tokenizer: Any) -> list[Any]:
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        parts = pre_tokenizer.get("pretokenizers")
        return parts if isinstance(parts, list) else []
    return [] if pre_tokenizer is None else [pre_tokenizer]


def _step(part: Any, path: Path) -> str:
    """One step in words that can be compared; its name in brackets when we have no word for it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "ByteLevel":
        if part.get("add_prefix_space"):
            raise InputError(
                f"{path}: pre_tokenizer.add_prefix_space = true, which llama.cpp does not do"
            )
        return _GPT2 if part.get("use_regex", True) else _BYTES
    if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        pattern = part.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(regex, str):
            return _spelled(regex)
    if kind == "Digits" and part.get("individual_digits") is True:
        return _DIGITS
    return f"[{str(kind)[:40]}]"


def _spelled(regex: str) -> str:
    """One spelling for the same regex: line ends as escapes, single digits without a count."""
    return regex.replace("\r", r"\r").replace("\n", r"\n").replace(r"\p{N}{1}|", r"\p{N}|")
