from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from plm_edge.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["converter", *map(str, arguments)])


def test_the_shipped_converter_is_listed_shown_and_valid() -> None:
    [row] = json.loads(run("list", "--json").stdout)
    assert (row["name"], row["origin"], row["error"]) == ("plm", "shipped", None)
    assert 'gguf_architecture = "plm"' in run("show", "plm").stdout
    assert run("validate").exit_code == 0


def test_a_copy_is_the_users_and_a_broken_one_is_named(own_folders: Path) -> None:
    assert run("copy", "plm").exit_code == 0
    path = own_folders / "config" / "converters" / "plm.toml"
    assert path.is_file()
    path.write_text(path.read_text().replace("[[same]]", "[[sane]]"))
    result = run("validate", "plm")
    assert result.exit_code == 1
    assert "unknown key 'sane'" in result.stderr
    assert "did you mean 'same'?" in result.stderr
