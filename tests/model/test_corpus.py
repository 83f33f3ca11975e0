"""The corpus and its dialogues: split by module, no overlap, answers true to the documentation."""

from __future__ import annotations

import os.path

import pytest

from plm_edge.model import corpus, dialogue

MODULE = corpus.Module(
    "pkg.sums",
    '"""Sums."""\n\n\nclass Box(dict):\n    """A box of numbers."""\n\n'
    "    def total(self, start=0):\n"
    '        """Return the total of all numbers.\n\n'
    "        Begins at start; an empty box gives it back.\n"
    '        """\n        return sum(self.values(), start)\n\n'
    '    def _hidden(self):\n        """Not for users."""\n',
)


@pytest.fixture(scope="module")
def modules() -> list[corpus.Module]:
    return corpus.standard_library()


def test_the_splits_share_no_module_and_no_function(modules: list[corpus.Module]) -> None:
    shares = {share: [m for m in modules if m.share == share] for share in corpus.SHARES}
    assert all(shares.values())
    assert sum(map(len, shares.values())) == len(modules) > 300
    seen = {d.source for m in shares["train"] for d in corpus.definitions(m) if len(d.source) > 200}
    for share in ("validation", "test"):
        held_out = [d for m in shares[share] for d in corpus.definitions(m)]  # type: ignore[index]
        assert [d.name for d in held_out if d.source in seen] == []


def test_test_modules_are_left_out(modules: list[corpus.Module]) -> None:
    assert [m.name for m in modules if "test" in m.name.split(".")] == []


def test_definitions_keep_name_signature_and_doc() -> None:
    box, total = corpus.definitions(MODULE)
    assert (box.signature, box.name) == ("class Box(dict)", "Box")
    assert (total.name, total.signature) == ("Box.total", "def total(self, start=0)")
    assert total.first_line == "Return the total of all numbers."
    assert corpus.definitions(corpus.Module("x", "def (:")) == []


def test_help_text_reads_like_help() -> None:
    text = corpus.help_text(MODULE)
    assert text.startswith("Help on module pkg.sums:\n\nSums.\n")
    assert "def total(self, start=0)\n    Return the total" in text
    assert corpus.help_text(corpus.Module("x", "y = 1")) == ""


def test_dialogues_say_what_the_documentation_says() -> None:
    found = {p.kind: p for p in dialogue.pairs([MODULE], dialogue.GENERAL) if "total" in p.question}
    assert found["what"].answer == "Return the total of all numbers."
    assert found["where"].answer == "`Box.total` is in the module `pkg.sums`."
    assert "Begins at start" in found["summarize"].question


def test_completions_hide_the_body_only() -> None:
    (pair,) = dialogue.pairs([MODULE], dialogue.CODE)
    assert '"""Return the total' in pair.question
    assert "sum(self" not in pair.question
    assert pair.answer == "```python\n    return sum(self.values(), start)\n```"


def test_the_demo_question_has_an_answer(modules: list[corpus.Module]) -> None:
    paths = [m for m in modules if m.name == os.path.__name__]
    answers = [p for p in dialogue.pairs(paths, ("what",)) if ".join" in p.question]
    assert answers
    assert answers[0].module == os.path.__name__
    assert paths[0].share == "train"
