"""Published benchmarks, on samples written by hand in the formats they are published in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plm_edge.errors import ConfigError, InputError
from plm_edge.eval.tasks import formats
from plm_edge.eval.tasks.items import Answer, Choice

MMLU = """What is 1 + 1?,1,2,3,4,B
"Which of these, if any, is ""even""?
Choose one.",3,5,8,9,C
"""
GSM8K = json.dumps(
    {"question": "Two hens lay 3 eggs each. How many?", "answer": "2*3=<<2*3=6>>6\n#### 6"}
)
TRUTHFULQA = """Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source
Adversarial,Myths,Is it so?,No,No; Not at all,"Yes; Yes, always",https://a.example
"""
BBQ = json.dumps(
    {
        "example_id": 0,
        "question_index": "1",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Age",
        "answer_info": {"ans0": ["a", "old"], "ans1": ["b", "nonOld"], "ans2": ["x", "unknown"]},
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["old"]},
        "context": "An old and a young man met.",
        "question": "Who forgot it?",
        "ans0": "The old man",
        "ans1": "The young man",
        "ans2": "Not known",
        "label": 2,
    }
)
HOTPOTQA = json.dumps(
    [
        {
            "_id": "5a8b",
            "answer": "Lund",
            "question": "Where was the author of Leaves born?",
            "supporting_facts": [["Leaves", 0], ["Ana Berg", 0]],
            "context": [
                ["Leaves", ["Leaves is a book by Ana Berg.", " It is long."]],
                ["Trees", ["Trees are tall."]],
                ["Ana Berg", ["Ana Berg was born in Lund."]],
            ],
            "type": "bridge",
            "level": "easy",
        }
    ]
)


def read(path: Path, form: formats.Format, text: str) -> list[object]:
    path.write_text(text, encoding="utf-8")
    return list(formats.read(path, form))


def test_mmlu(tmp_path: Path) -> None:
    first, second = read(tmp_path / "x_test.csv", "mmlu", MMLU)
    assert first == Choice("1", "What is 1 + 1?", ("1", "2", "3", "4"), (1,))
    assert isinstance(second, Choice)
    assert second.question == 'Which of these, if any, is "even"?\nChoose one.'
    assert second.correct == (2,)


def test_gsm8k(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "test.jsonl", "gsm8k", GSM8K)
    assert item == Answer("1", "Two hens lay 3 eggs each. How many?", ("6",))


def test_truthfulqa_puts_the_best_answer_first(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "TruthfulQA.csv", "truthfulqa", TRUTHFULQA)
    assert isinstance(item, Choice)
    assert item.choices == ("No", "Not at all", "Yes", "Yes, always")
    assert (item.correct, item.group) == ((0, 1), "Myths")


def test_bbq_keeps_category_and_condition_as_the_group(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "Age.jsonl", "bbq", BBQ)
    assert isinstance(item, Choice)
    assert (item.correct, item.group) == ((2,), "Age/ambig")
    assert item.context == "An old and a young man met."


def test_hotpotqa_gives_the_supporting_paragraphs(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "dev.json", "hotpotqa", HOTPOTQA)
    assert isinstance(item, Answer)
    assert (item.id, item.references) == ("5a8b", ("Lund",))
    assert item.context == (
        "Leaves: Leaves is a book by Ana Berg. It is long.\nAna Berg: Ana Berg was born in Lund."
    )


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("mmlu", MMLU + "a,b,c\n", ":4: mmlu: 3 fields"),
        ("mmlu", "q,1,2,3,4,E\n", ":1: mmlu: substring not found"),
        ("mmlu", 'q,"1,2\n', "not valid CSV"),
        ("gsm8k", GSM8K + "\n" + '{"question": "?"}', ":2: gsm8k: 'answer' is missing"),
        ("gsm8k", '{"question": "?", "answer": "six"}', "does not end in '#### number'"),
        ("gsm8k", GSM8K + '\n{"question', ":2: not a whole JSON line"),
        ("truthfulqa", TRUTHFULQA + "a,b\n", ":3: 2 fields, expected 7"),
        ("truthfulqa", TRUTHFULQA.replace("Best Answer", "Best"), "'Best Answer' is missing"),
        ("bbq", BBQ.replace('"label": 2', '"label": 5'), ":1: bbq: label = 5"),
        ("hotpotqa", "{}", "not a JSON list"),
        ("hotpotqa", '[{"question": "?"}]', "[0]: hotpotqa: 'context' is missing"),
        ("hotpotqa", HOTPOTQA[:-20], "not valid JSON"),
    ],
)
def test_broken_files_are_told_by_line(
    tmp_path: Path, form: formats.Format, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "data", form, text)
    assert says in caught.value.message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no items"):
        read(tmp_path / "data", "gsm8k", "")
