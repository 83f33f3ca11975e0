from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.convert.chat_template import chat_template, check_syntax
from plm_edge.convert.synth_tokenizer import CHAT_TEMPLATE
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError


def folder_with(folder: Path, template: Any = None, **files: str) -> Path:
    config = {"eos_token": "x"} | ({"chat_template": template} if template is not None else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, text in files.items():
        (folder / name.replace("_jinja", ".jinja").replace("_json", ".json")).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, Any]:
    return {key: value.value for key, value in chat_template(TokenizerFiles.read(folder)).items()}


def test_the_configs_template_comes_first(tmp_path: Path) -> None:
    folder_with(tmp_path, CHAT_TEMPLATE, chat_template_jinja="other")
    assert texts(tmp_path) == {"tokenizer.chat_template": CHAT_TEMPLATE}


def test_a_template_file_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, None, chat_template_jinja="{{ a }}\r\n{{ b }}")
    assert texts(tmp_path) == {"tokenizer.chat_template": "{{ a }}\n{{ b }}"}


def test_a_template_json_is_found(tmp_path: Path) -> None:
    folder_with(tmp_path, None, chat_template_json='{"chat_template": "{{ a }}"}')
    assert texts(tmp_path) == {"tokenizer.chat_template": "{{ a }}"}


def test_named_templates_beside_the_default(tmp_path: Path) -> None:
    folder_with(tmp_path, None, chat_template_jinja="{{ a }}")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool-use.jinja").write_text("{{ b }}")
    assert texts(tmp_path) == {
        "tokenizer.chat_template": "{{ a }}",
        "tokenizer.chat_template.tool_use": "{{ b }}",
        "tokenizer.chat_templates": ["tool_use"],
    }


def test_no_template_and_an_empty_one_are_none(tmp_path: Path) -> None:
    assert texts(tmp_path) == {}
    assert texts(folder_with(tmp_path)) == {}
    assert texts(folder_with(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}\n{{ m.content }", "line 2: "),
        ("{% if a %}", "line 1: "),
        ("{% endfor %}", "line 1: "),
        ("a\nb\n{{ 1 + }}", "line 3: "),
        ("{{" + "(" * 5000 + ")" * 5000 + "}}", "nested too deeply"),
        (7, "neither a text nor a list"),
        ([{"name": "default"}], "without name or template"),
        (["x"], "without name or template"),
    ],
)
def test_a_broken_template_is_named_with_its_line(
    tmp_path: Path, template: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"tokenizer_config\.json: .*{message}") as caught:
        chat_template(TokenizerFiles.read(folder_with(tmp_path, template)))
    assert "\n" not in caught.value.message


def test_what_transformers_adds_to_jinja_is_accepted() -> None:
    template = (
        "{%- for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
        "{{ raise_exception('no') }}{{ tools | tojson }}"
    )
    check_syntax(template, Path("t"))
