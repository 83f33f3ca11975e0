"""TOML to frozen dataclass, in the one place where that happens.

A field's annotation is its schema: `str int float bool`, `Literal[...]`, `X | None`,
`tuple[X, ...]`, `dict[str, X]` and other dataclasses. A field without a default is required.
Unknown keys, wrong types and missing keys are `ConfigError`s that name file, table and key.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast

from plm_edge.errors import ConfigError
from plm_edge.paths import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

SCHEMA_VERSION = 1
TOML_LIMIT_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file of ours, its `schema = 1` checked and taken off."""
    try:
        table: dict[str, Any] = tomllib.loads(
            read_bytes(path, limit_bytes=TOML_LIMIT_BYTES).decode("utf-8")
        )
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    version = table.pop("schema", None)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ConfigError(
            f"{path}: schema = {version!r}, expected {SCHEMA_VERSION}",
            hint=f"put `schema = {SCHEMA_VERSION}` on the first line",
        )
    return table


def load(path: Path, cls: type[T]) -> T:
    """Read a TOML file into the dataclass `cls`."""
    return build(read_toml(path), cls, path)


def build(table: dict[str, Any], cls: type[T], source: Path, where: str = "") -> T:
    """Turn a parsed table into the dataclass `cls`; `where` is the table's dotted name."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls))}
    for key in table:
        if key not in fields:
            raise _unknown_key(source, where, key, list(fields))
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(table[name], hints[name], source, _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: {_table(where)}key {name!r} is missing")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own __post_init__ check
        raise ConfigError(f"{source}: {_table(where)}{error}") from error


def _convert(value: Any, hint: Any, source: Path, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return _convert(value, inner, source, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
            raise _wrong(source, where, value, "one of " + ", ".join(map(repr, args)))
        return value
    if origin is tuple:
        items = _expect(value, list, "a list", source, where)
        return tuple(_convert(v, args[0], source, f"{where}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        table = _expect(value, dict, "a table", source, where)
        return {k: _convert(v, args[1], source, _join(where, k)) for k, v in table.items()}
    if dataclasses.is_dataclass(hint):
        table = _expect(value, dict, "a table", source, where)
        return build(table, cast(type[Any], hint), source, where)
    return _scalar(value, hint, source, where)


def _scalar(value: Any, hint: Any, source: Path, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(source, where, value, f"a value of type {hint.__name__}")
    return value


def _expect(value: Any, kind: type, words: str, source: Path, where: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(source, where, value, words)
    return value


def _wrong(source: Path, where: str, value: Any, expected: str) -> ConfigError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ConfigError(f"{source}: {where} = {shown}, expected {expected}")


def _unknown_key(source: Path, where: str, key: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(sorted(known))
    return ConfigError(f"{source}: {_table(where)}unknown key {key!r}", hint=hint)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _table(where: str) -> str:
    return f"[{where}] " if where else ""
