"""`list show validate copy`, as a user types them (the same code serves all four kinds)."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from plm_edge.cli import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["device", *words])


def test_list_names_the_host_and_speaks_json() -> None:
    assert "host" in run("list").stdout
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert {"origin": "shipped", "error": None}.items() <= rows["host"].items()


def test_show_prints_the_file_and_speaks_json() -> None:
    shown = run("show", "host")
    assert "schema = 1" in shown.stdout
    assert "host.toml (shipped)" in shown.stderr
    assert json.loads(run("show", "host", "--json").stdout)["text"] == shown.stdout


def test_copy_puts_a_file_into_the_users_folder(own_folders: Path) -> None:
    target = own_folders / "config" / "devices" / "mine.toml"
    assert f"to {target}" in run("copy", "host", "mine", "--dry-run").stdout
    assert not target.exists()
    assert run("copy", "host", "mine").stdout.strip() == str(target)
    again = run("copy", "host", "mine")
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    assert run("validate", "mine").exit_code == 0


def test_copy_refuses_names_that_leave_the_folder() -> None:
    for name in ("../x", "a/b", ".hidden", ""):
        assert run("copy", "host", name).exit_code == 1


def test_validate_names_what_is_wrong_by_path(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "bröken.toml"
    path.parent.mkdir()
    path.write_text("schema = 1\ndescriptoin = 'x'\n", encoding="utf-8")
    result = run("validate", str(path))
    assert result.exit_code == 1
    assert result.stderr == (
        f"plm-edge: {path}: unknown key 'descriptoin'\nhint: did you mean 'description'?\n"
    )
    assert run("validate", str(tmp_path / "none.toml")).exit_code == 1
    assert json.loads(run("validate", "--json").stdout)[0]["ok"]


def test_a_broken_user_file_is_a_warning_when_listed_and_an_error_when_named(
    own_folders: Path,
) -> None:
    folder = own_folders / "config" / "devices"
    folder.mkdir(parents=True)
    (folder / "host.toml").write_text("schema = 7\n", encoding="utf-8")
    listed = run("list")
    assert listed.exit_code == 0
    assert "warning:" in listed.stderr
    assert "overrides" in listed.stderr
    assert run("validate", "host").exit_code == 1
