"""A task's TOML: what kind it is, where its data lies, and how the model is asked."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge import resources, schema
from plm_edge.errors import ConfigError, InputError, UsageError
from plm_edge.eval.tasks import formats, items
from plm_edge.eval.tasks.formats import Format
from plm_edge.eval.tasks.items import Item
from plm_edge.paths import read_bytes
from plm_edge.resources import Resource
from plm_edge.shell import quote

# fmt: off
Kind = Literal[
    "choice", "pair", "answer", "number", "summary", "sql", "code", "refusal", "leak", "perturbed"
]
# fmt: on

ITEM_TYPES: dict[Kind, type[Item]] = {
    "choice": items.Choice,
    "pair": items.Pair,
    "answer": items.Answer,
    "number": items.Answer,
    "summary": items.Summary,
    "sql": items.Sql,
    "code": items.Code,
    "refusal": items.Refusal,
    "leak": items.Leak,
    "perturbed": items.Perturbed,
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SLOT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class TaskSpec:
    """What the TOML says; an empty `data` means that the user brings the file."""

    description: str
    kind: Kind
    source: str
    prompt: str
    data: str = ""
    format: Format = "jsonl"
    chat: bool = False
    system: str = ""
    letters: bool = False
    max_tokens: int = 64
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {field.name for field in dataclasses.fields(ITEM_TYPES[self.kind])}
        known |= {"options"} if self.kind == "choice" else set()
        known |= {"question"} if self.kind == "perturbed" else set()
        for slot in _SLOT.findall(self.prompt):
            if slot not in known:
                raise ValueError(f"prompt uses {{{slot}}}, expected one of {sorted(known)}")
        if not 1 <= self.max_tokens <= 4096:
            raise ValueError(f"max_tokens = {self.max_tokens}, expected 1 to 4096")
        if self.letters and self.kind != "choice":
            raise ValueError("letters is for the kind 'choice'")
        if self.system and not self.chat:
            raise ValueError("system needs chat = true")
        if formats.KINDS[self.format] not in (None, self.kind):
            raise ValueError(f"format {self.format!r} holds tasks of another kind than {self.kind}")

    def ask(self, item: Item) -> str:
        """The prompt for an item: each `{field}` replaced by what the item holds there."""
        return _SLOT.sub(lambda found: _value(item, found[1]), self.prompt)

    def continuations(self, item: items.Choice) -> list[str]:
        """What the model may go on with: the answers' letters, or the answers."""
        texts = LETTERS[: len(item.choices)] if self.letters else item.choices
        return [f" {text}" for text in texts]


def _value(item: Item, slot: str) -> str:
    if slot == "options" and isinstance(item, items.Choice):
        pairs = zip(LETTERS, item.choices, strict=False)
        return "\n".join(f"{letter}. {text}" for letter, text in pairs)
    return str(getattr(item, slot))


@dataclass(frozen=True)
class Task:
    """A task with its items; `sha256` covers everything that decides what is asked."""

    name: str
    spec: TaskSpec
    items: tuple[Item, ...]
    data: Path
    sha256: str

    def first(self, limit: int | None) -> Task:
        """The task cut to its first items, which makes it another task for comparisons."""
        if limit is None or limit >= len(self.items):
            return self
        digest = hashlib.sha256(f"{self.sha256} first {limit}".encode()).hexdigest()
        return dataclasses.replace(self, items=self.items[:limit], sha256=digest)


def load(resource: Resource) -> TaskSpec:
    """The TOML of a task, checked; and its data, if it brings any."""
    spec = read_spec(resource)
    if spec.data:
        _read_items(resource, spec, data_path(resource, spec))
    return spec


def read_spec(resource: Resource) -> TaskSpec:
    """The TOML of a task, checked."""
    return schema.build(resources.read_table(resource), TaskSpec, resource.path)


def load_task(resource: Resource, data: Path | None = None) -> Task:
    """A task with its items; `data` is the user's file, for tasks that bring none."""
    spec = read_spec(resource)
    path = data_path(resource, spec) if data is None else data
    found = _read_items(resource, spec, path)
    hasher = hashlib.sha256(repr(dataclasses.astuple(spec)).encode())
    hasher.update(read_bytes(path, limit_bytes=items.DATA_LIMIT_BYTES))
    return Task(resource.name, spec, tuple(found), path, hasher.hexdigest())


def data_path(resource: Resource, spec: TaskSpec) -> Path:
    """Where a task's own data lies: beside its TOML, or beside the one it overrides."""
    if not spec.data:
        raise UsageError(
            f"task {resource.name!r} brings no data",
            hint=f"plm-edge tasks run FILE --task {resource.name} --data {spec.format}-FILE",
        )
    if "/" in spec.data or spec.data.startswith("."):
        raise ConfigError(f"{resource.path}: data = {spec.data!r}, expected a file's name")
    path = resource.path.parent / spec.data
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint=quote(["ls", path.parent]))
    return path


def _read_items(resource: Resource, spec: TaskSpec, path: Path) -> list[Item]:
    if spec.format == "jsonl":
        return items.read(path, ITEM_TYPES[spec.kind])
    return list(formats.read(path, spec.format))
