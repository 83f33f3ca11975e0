"""Questions and answers made from the corpus: what does X do, which module has it, complete this.

Every pair comes from a documented definition, so it is as true as the documentation; wordings vary
by a hash of the name, so that a rerun gives the same pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from plm_edge.model.corpus import Definition, Module, definitions

Kind = Literal["what", "where", "summarize", "complete"]
GENERAL: tuple[Kind, ...] = ("what", "where", "summarize")
CODE: tuple[Kind, ...] = ("complete",)

WORDINGS: dict[Kind, tuple[str, ...]] = {
    "what": ("What does {path} do?", "What is {path} for?", "Explain {path}."),
    "where": ("Which module has {name}?", "Where do I find {name}?", "Which module is {name} in?"),
    "summarize": ("Summarize this docstring:\n{doc}", "Say in one sentence:\n{doc}"),
    "complete": ("Complete this function:\n{head}", "Write the body of this function:\n{head}"),
}
# What users write for a module that the standard library keeps under another name.
ALIASES = {"posixpath": "os.path"}
LONGEST_ANSWER = 400
LONGEST_BODY = 700


@dataclass(frozen=True)
class Pair:
    """One exchange; `kind` and `module` say where it comes from."""

    kind: Kind
    module: str
    question: str
    answer: str


def pairs(modules: Sequence[Module], kinds: Sequence[Kind]) -> list[Pair]:
    """Every pair of the wanted kinds that the modules give, in their order."""
    found = []
    for module in modules:
        for item in definitions(module):
            for kind in kinds:
                pair = _make(kind, item)
                if pair is not None:
                    found.append(pair)
    return found


def under_other_names(found: Sequence[Pair]) -> list[Pair]:
    """The pairs of modules that users know by an alias, once more with it in the question."""
    return [
        replace(pair, question=pair.question.replace(pair.module, ALIASES[pair.module]))
        for pair in found
        if pair.kind == "what" and pair.module in ALIASES
    ]


def _make(kind: Kind, item: Definition) -> Pair | None:
    if kind == "complete":
        return _completion(item)
    first = item.first_line
    if not 12 <= len(first) <= LONGEST_ANSWER:
        return None
    path = f"{item.module}.{item.name}"
    if kind == "what":
        return Pair(kind, item.module, _ask(kind, item, path=path), first)
    if kind == "where":
        answer = f"`{item.name}` is in the module `{item.module}`."
        return Pair(kind, item.module, _ask(kind, item, name=f"`{item.name}`"), answer)
    if not len(first) + 40 < len(item.doc) <= 2 * LONGEST_ANSWER:
        return None  # a docstring of one line is its own summary
    return Pair(kind, item.module, _ask(kind, item, doc=item.doc), first)


def _completion(item: Definition) -> Pair | None:
    lines = item.source.splitlines()
    body_at = _after_docstring(item.source)
    if not item.signature.startswith("def ") or body_at is None or body_at >= len(lines):
        return None
    head, body = "\n".join(lines[:body_at]), "\n".join(lines[body_at:])
    if not 20 <= len(body) <= LONGEST_BODY or len(head) > LONGEST_BODY:
        return None
    question = _ask("complete", item, head=f"```python\n{head}\n```")
    return Pair("complete", item.module, question, f"```python\n{body}\n```")


def _after_docstring(source: str) -> int | None:
    """Line index where the body goes on after the docstring; None when there is no more."""
    import ast

    try:
        node = ast.parse(source).body[0]
    except (SyntaxError, IndexError, ValueError):
        return None
    body = getattr(node, "body", [])
    return int(body[0].end_lineno) if len(body) > 1 else None


def _ask(kind: Kind, item: Definition, **values: str) -> str:
    key = f"{kind}:{item.module}.{item.name}".encode()
    choices = WORDINGS[kind]
    return choices[hashlib.sha256(key).digest()[0] % len(choices)].format(**values)
