"""`plm-edge doctor` and `device doctor|probe|add|remove` as a user types them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("words", [("doctor",), ("device", "doctor", "host")])
def test_this_machine_is_looked_over(words: tuple[str, ...]) -> None:
    done = run(*words, "--no-storage", "--json")

    checks = {finding["check"] for finding in json.loads(done.stdout)}
    assert done.exit_code == 0
    assert {"connection", "processor", "memory", "swap", "page size", "mount"} <= checks


def test_a_device_that_cannot_work_is_exit_status_3() -> None:
    done = run("doctor", "--device", "rpi5")

    assert done.exit_code == 3
    assert done.stdout.startswith("PROBLEM  connection")
    assert "fix: plm-edge device add" in done.stdout


def test_an_awkward_device_is_added_shown_and_removed() -> None:
    name = "my $(id) 'pi'"
    dry = run("device", "add", name, "--extends", "rpi5", "--host", "pi@192.0.2.7", "--dry-run")
    assert 'host = "192.0.2.7"' in dry.stdout
    assert run("device", "show", name).exit_code == 1

    assert run("device", "add", name, "--extends", "rpi5", "--host", "pi@192.0.2.7").exit_code == 0
    rows = {row["name"]: row for row in json.loads(run("device", "list", "--json").stdout)}
    assert (rows[name]["origin"], rows[name]["error"]) == ("user", None)
    assert 'user = "pi"' in run("device", "show", name).stdout
    assert run("device", "remove", name, "--dry-run").exit_code == 0
    assert run("device", "remove", name).exit_code == 0
    assert run("device", "show", name).exit_code == 1


def test_a_device_of_ones_own_can_be_probed() -> None:
    run("device", "add", "pretend", "--extends", "rpi4", "--emulated")

    facts = json.loads(run("device", "probe", "pretend", "--json").stdout)

    assert (facts["architecture"], facts["is_emulated"], facts["fits"]) == ("aarch64", True, True)
    assert "rpi4" in facts["profiles"]
    assert "fits             yes" in run("device", "probe", "pretend").stdout


def test_a_build_for_another_cpu_is_refused_with_its_name() -> None:
    run("device", "add", "attic", "--extends", "rpi4", "--emulated")
    path = run("device", "remove", "attic", "--dry-run").stdout.split()[-1]
    with open(path) as file:
        text = file.read().replace('"rpi4"', '"rpi5"')
    with open(path, "w") as file:
        file.write(f'{text}\n[cpu]\nqemu_cpu = "cortex-a72"\n')

    facts = json.loads(run("device", "probe", "attic", "--json").stdout)

    assert facts["fits"] is False
    assert "asimddp" in facts["reason"]
    assert "SIGILL" in facts["reason"]
