"""What can be known to fail before a model is loaded: memory, the template, unusable keys."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Literal

from plm_edge.chat.template import ChatTemplate
from plm_edge.errors import InputError, SpaceError, UsageError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.paths import read_bytes
from plm_edge.shape import PlmShape

CacheType = Literal["f16", "q8_0"]

TEMPLATE_KEY = "tokenizer.chat_template"
KEY_FILE_LIMIT_BYTES = 1 << 20
# llama.cpp's LLAMA_MAX_LAYERS
ENGINE_LAYERS = 512
MEMINFO = Path("/proc/meminfo")


def checked_header(path: Path) -> GgufHeader:
    """The header of a PLM; `InputError` for anything else, or for what would abort the engine."""
    header = read_header(path)
    header.require_architecture()
    if shape_of(header).num_hidden_layers > ENGINE_LAYERS:
        raise InputError(f"{path}: has more than {ENGINE_LAYERS} layers")
    if header.metadata.get("plm.expert_count"):
        raise InputError(f"{path}: has plm.expert_count, but a PLM has no experts")
    _require_distinct_tokens(header)
    return header


def _require_distinct_tokens(header: GgufHeader) -> None:
    values = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(values, list):
        return
    tokens = [str(token).split("\0", 1)[0] for token in values]  # as C reads them
    if len(set(tokens)) == len(tokens):
        return
    token = next(token for token, count in Counter(tokens).items() if count > 1)
    raise InputError(f"{header.path}: token {token!r} appears twice in the vocabulary")


def model_name(header: GgufHeader) -> str:
    """The model's own name, else its file's; always text that can be printed."""
    name = str(header.metadata.get("general.name") or header.path.stem)
    return name.encode("utf-8", "replace").decode("utf-8")


def shape_of(header: GgufHeader) -> PlmShape:
    """The model's dimensions."""
    return PlmShape.from_metadata(header.metadata, str(header.path))


def template_source(header: GgufHeader) -> str | None:
    """The chat template in the file, if it has one."""
    source = header.metadata.get(TEMPLATE_KEY)
    if not isinstance(source, str) or not source.strip():
        return None
    if any(0xD800 <= ord(letter) < 0xE000 for letter in source):
        raise InputError(f"{header.path}: chat template: not UTF-8")
    return source


def require_template(header: GgufHeader) -> None:
    """Raise `InputError` if the file's chat template does not even compile."""
    if source := template_source(header):
        ChatTemplate(source, name=str(header.path))


def require_cache_memory(header: GgufHeader, context_tokens: int, cache_type: CacheType) -> None:
    """Raise `SpaceError` unless the cache of so many tokens fits the memory that is free."""
    needed = shape_of(header).cache_bytes_per_token(cache_type) * context_tokens
    available = _available_memory_bytes()
    if needed > available:
        raise SpaceError(
            f"a context of {context_tokens} tokens needs {needed / 1e9:.2f} GB of "
            f"memory, but {available / 1e9:.2f} GB are free",
            hint="pass a smaller --ctx, or --cache-type q8_0",
        )


def context_warning(header: GgufHeader, context_tokens: int) -> str | None:
    """What to say about a context longer than the model was trained for."""
    trained = shape_of(header).max_position_embeddings
    if context_tokens <= trained:
        return None
    return f"--ctx {context_tokens}: the model was trained for {trained} tokens and fails beyond"


def require_key(key: str | None, file: Path | None) -> None:
    """Raise unless the API key can be sent in an HTTP header, and only one source is named."""
    if key is not None and file is not None:
        raise UsageError("--api-key and --api-key-file: pass one of them")
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise UsageError("--api-key: expected printable ASCII letters without spaces")
    if file is not None:
        lines = read_bytes(file, limit_bytes=KEY_FILE_LIMIT_BYTES).split(b"\n")
        if not any(line.strip() and not line.startswith(b"#") for line in lines):
            raise InputError(f"{file}: has no key in it")


def _available_memory_bytes() -> float:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        table = dict(line.split(":", 1) for line in lines)
        return int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return math.inf
