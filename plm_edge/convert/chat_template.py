"""A checkpoint's chat template: found where transformers keeps it, its syntax checked by Jinja."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from plm_edge.convert.gguf_output import array, string
from plm_edge.convert.json_file import read_object
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from plm_edge.gguf_header import STRING, GgufValue
from plm_edge.paths import read_bytes

KEY = "tokenizer.chat_template"
_LIMIT_BYTES = 4 << 20
_NAME_CHARACTERS = ascii_letters + digits


def chat_template(files: TokenizerFiles) -> dict[str, GgufValue]:
    """The metadata of the template and of named ones beside it; `InputError` with file and line.

    Upstream reads templates only where there is a tokenizer_config.json, and that one's first.
    """
    folder, config = files.folder, files.config
    if not config:
        return {}
    if "chat_template" in config:
        return _values(config["chat_template"], files.config_path)
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _values(_from_files(folder, path), path)
    path = folder / "chat_template.json"
    return _values(read_object(path).get("chat_template"), path) if path.is_file() else {}


def _from_files(folder: Path, path: Path) -> Any:
    default = _text(path)
    others = list((folder / "additional_chat_templates").glob("*.jinja"))
    if not others:
        return default
    named = [{"name": "default", "template": default}]
    return named + [{"name": other.stem, "template": _text(other)} for other in sorted(others)]


def _text(path: Path) -> str:
    try:
        # As Python's text mode reads it: one kind of line end.
        text = read_bytes(path, limit_bytes=_LIMIT_BYTES).decode("utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}") from error


def _values(template: Any, path: Path) -> dict[str, GgufValue]:
    if template is None:
        return {}
    if isinstance(template, str):
        check_syntax(template, path)
        return {KEY: string(template)} if template else {}
    if not isinstance(template, list):
        raise InputError(f"{path}: chat_template is neither a text nor a list of named texts")
    values: dict[str, GgufValue] = {}
    default, names = None, []
    for name, text in _named(template, path):
        if name == "default":
            default = text
        else:
            names.append(name)
            values[f"{KEY}.{name}"] = string(text)
    if names:
        values["tokenizer.chat_templates"] = array(STRING, sorted(set(names)))
    return {**values, KEY: string(default)} if default else values


def _named(template: list[Any], path: Path) -> Iterator[tuple[str, str]]:
    for choice in template:
        name = choice.get("name") if isinstance(choice, dict) else None
        text = choice.get("template") if isinstance(choice, dict) else None
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"{path}: chat_template has an entry without name or template")
        check_syntax(text, path)
        key = "".join(c if c in _NAME_CHARACTERS else "_" for c in name)
        if key and text:
            yield key, text


def check_syntax(template: str, path: Path) -> None:
    """Parse, never run, a template; `InputError` names the line of a syntax error."""
    from jinja2 import Environment, TemplateSyntaxError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """`{% generation %}`, a mark for training that transformers added to Jinja."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    extensions: list[Any] = ["jinja2.ext.loopcontrols", Generation]
    try:
        Environment(extensions=extensions).parse(template)  # noqa: S701
    except TemplateSyntaxError as error:
        message = (error.message or "syntax error").splitlines()[0]
        raise InputError(f"{path}: chat template, line {error.lineno}: {message}") from error
    except RecursionError as error:
        raise InputError(f"{path}: chat template is nested too deeply") from error
