"""`--ctx`."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.commands._context import AUTO, parse, resolved
from plm_edge.device import memory
from plm_edge.errors import SpaceError, UsageError
from plm_edge.gguf_header import read_header
from tests.chat.scripted import Script, write_scripted


def test_numbers_and_auto() -> None:
    assert (parse(0), parse("4096"), parse(" auto ")) == (0, 4096, AUTO)


@pytest.mark.parametrize("text", ["-1", "4k", "", "1.5", "Auto"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number of tokens, or auto"):
        parse(text)


def test_auto_here_is_what_fits_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = read_header(write_scripted(tmp_path / "m.gguf", Script(context_tokens=2048)))

    assert resolved(header, 512, "f16") == 512
    assert resolved(header, AUTO, "f16") == 2048
    monkeypatch.setattr(memory, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(SpaceError, match="this machine"):
        resolved(header, AUTO, "f16")
