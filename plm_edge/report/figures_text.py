"""Numbers as tables show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "–"


def size(size_bytes: float | None) -> str:
    """Bytes in the unit that needs fewest digits."""
    if size_bytes is None:
        return NONE
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.2f} {unit}"
    return f"{size_bytes:.0f} B"


def parameters(count: int) -> str:
    """A model's size as people call it."""
    for unit, scale in (("B", 10**9), ("M", 10**6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:,}"


def seconds(value: float | None) -> str:
    """Seconds, or milliseconds below one."""
    if value is None:
        return NONE
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def speed(value: float | None) -> str:
    """Three digits, which is all that is repeatable."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def known(value: float | None, form: str) -> str:
    """A number in a format, or a dash."""
    return NONE if value is None else form.format(value)


def interval(found: Mapping[str, Any] | None, form: str = "{:.3f}") -> str:
    """A value with its 95 % interval."""
    if found is None:
        return NONE
    value, low, high = (form.format(found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def label(model: str, *, is_random: bool) -> str:
    """A model's name; random weights always say so."""
    return f"{model} (random weights)" if is_random else model
