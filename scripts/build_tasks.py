"""Writes the shipped tasks that are made from Python's own documentation: `tasks/stdlib-*.jsonl`.

Material: docstrings of the standard library's modules in the test split (see
`plm_edge/model/corpus.py`) and of modules written in C, which the corpus never reads. A docstring
whose first sentence stands anywhere in a training module is left out. Which items are taken follows
from a hash of their names, so a rerun on the same Python gives the same files.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from plm_edge.model import corpus
from plm_edge.model.corpus import Definition

TARGET = Path(__file__).parent.parent / "tasks"
COMPILED = ("array", "binascii", "builtins", "cmath", "fcntl", "gc", "itertools", "marshal", "math")
COMPILED += ("mmap", "posix", "resource", "select", "sys", "termios", "time", "unicodedata", "zlib")
CHOICES, FINDS, SUMMARIES = 80, 60, 40
SENTENCE = re.compile(r"^[A-Z][^\n]{14,160}\.$")


def compiled_definitions() -> Iterator[Definition]:
    """Documented functions and methods of modules written in C."""
    for name in COMPILED:
        module = importlib.import_module(name)
        for path, item in _members(module):
            doc = inspect.getdoc(item) or ""
            if doc and not path.rpartition(".")[2].startswith("_"):
                yield Definition(name, path, "", doc, "")


def _members(module: object) -> Iterator[tuple[str, object]]:
    for name, item in sorted(vars(module).items()):
        if inspect.isbuiltin(item):
            yield name, item
        if inspect.isclass(item) and not issubclass(item, BaseException):
            yield from ((f"{name}.{key}", value) for key, value in _methods(item))


def _methods(cls: type) -> list[tuple[str, object]]:
    return [(key, value) for key, value in sorted(vars(cls).items()) if callable(value)]


def unseen() -> list[Definition]:
    """Definitions with a first sentence that no training module holds, one for each sentence."""
    modules = corpus.standard_library()
    training = "\n".join(" ".join(m.text.split()) for m in modules if m.share == "train")
    tests = [item for m in modules if m.share == "test" for item in corpus.definitions(m)]
    by_sentence: dict[str, Definition] = {}
    for item in [*tests, *compiled_definitions()]:
        first = item.first_line
        if SENTENCE.match(first) and first not in training:
            by_sentence.setdefault(first, item)
    return sorted(by_sentence.values(), key=lambda item: _hash(path_of(item)))


def path_of(item: Definition) -> str:
    """How a user would name it."""
    return item.name if item.module == "builtins" else f"{item.module}.{item.name}"


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def neighbours(item: Definition, items: Sequence[Definition], count: int) -> list[Definition]:
    """Others of the same module where it has enough, else from anywhere, by a hash of the names."""
    others = [other for other in items if other.name != item.name]
    key = path_of(item)
    return sorted(
        others, key=lambda other: (other.module != item.module, _hash(key + path_of(other)))
    )[:count]


def choice(item: Definition, items: Sequence[Definition]) -> dict[str, object]:
    """What does it do: its own sentence among three of its neighbours."""
    texts = [item.first_line, *(other.first_line for other in neighbours(item, items, 3))]
    order = sorted(texts, key=lambda text: _hash(path_of(item) + text))
    return {
        "id": path_of(item),
        "question": f"What does {path_of(item)} do?",
        "choices": order,
        "correct": [order.index(item.first_line)],
        "group": item.module,
    }


def find(item: Definition, items: Sequence[Definition]) -> dict[str, object]:
    """Which of four does this: the name, to be taken from the list."""
    listed = sorted([item, *neighbours(item, items, 3)], key=lambda other: _hash(path_of(other)))
    return {
        "id": path_of(item),
        "question": f"Which of these does the following? {item.first_line}",
        "context": "\n".join(f"{path_of(other)}: {other.first_line}" for other in listed),
        "references": [path_of(item), f"{path_of(item)}()"],
    }


def summary(item: Definition) -> dict[str, object] | None:
    """What the rest of a docstring comes to: its first sentence."""
    body = "\n\n".join(item.doc.split("\n\n")[1:]).strip()
    if not 120 <= len(body) <= 1200:
        return None
    return {"id": path_of(item), "text": body, "summary": item.first_line}


def write(name: str, rows: Sequence[dict[str, object]]) -> None:
    """One JSON object per line."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (TARGET / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    """Write the three files."""
    items = unseen()
    summaries = [row for item in items if (row := summary(item)) is not None]
    write("stdlib-what", [choice(item, items) for item in items[:CHOICES]])
    # Other items than the ones above, so that the two tasks are independent.
    write("stdlib-find", [find(item, items) for item in items[CHOICES : CHOICES + FINDS]])
    write("stdlib-summary", summaries[:SUMMARIES])


if __name__ == "__main__":
    main()
