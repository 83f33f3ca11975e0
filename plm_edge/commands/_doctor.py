"""Renders a doctor's findings, for `doctor` and `device doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from plm_edge import console

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "problem": "PROBLEM"}
EXIT_PROBLEM = 3


def show(name: str, *, with_storage: bool, as_json: bool) -> None:
    """Examine the device and print what there is to say; exit status 3 if it cannot work."""
    from plm_edge.device import doctor, profile

    findings = doctor.examine(name, profile.find(name), with_storage=with_storage)
    if as_json:
        console.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{_MARKS[finding.level]:<8} {finding.check:<16} {finding.message}")
            if finding.fix:
                print(f"{'':<8} {'':<16} fix: {finding.fix}")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(EXIT_PROBLEM)
