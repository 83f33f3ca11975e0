"""Measurements are kept, taken up again after a kill, and foretold where they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.gguf_header import GgufTensor
from plm_edge.quantize import sensitivity
from plm_edge.quantize.candidates import Candidate
from plm_edge.quantize.sensitivity import Journal

TYPES = ("q2_K", "q3_K", "q4_0", "q6_K")
CANDIDATES = [
    Candidate(GgufTensor(f"blk.{layer}.ffn_up.weight", (256, 256), "f16", 0, 131072), TYPES)
    for layer in range(3)
]
SHARES = {"q2_K": 0.1, "q3_K": 0.03, "q4_0": 0.008, "q6_K": 0.0005}


def share(pair: tuple[str, str]) -> float:
    return SHARES[pair[1]]


def test_one_probe_for_each_or_all_formats() -> None:
    probes = sensitivity.pairs(CANDIDATES, all_types=False)
    assert probes == [(f"blk.{layer}.ffn_up.weight", "q4_0") for layer in range(3)]
    assert len(sensitivity.pairs(CANDIDATES, all_types=True)) == 12


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "kept" / "journal.jsonl")
    wanted = sensitivity.pairs(CANDIDATES, all_types=True)
    calls: list[tuple[str, str]] = []

    def until_killed(name: str, kind: str) -> float:
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append((name, kind))
        return 0.25

    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure(wanted, until_killed, journal)
    with journal.path.open("a") as file:
        file.write('{"tensor": "blk.1.ffn_up.weight", "ty')  # what a power cut leaves
    again: list[tuple[str, str]] = []
    found = sensitivity.measure(wanted, lambda *pair: again.append(pair) or 0.5, journal)
    assert again == wanted[5:]
    assert [found[pair] for pair in wanted] == [0.25] * 5 + [0.5] * 7
    assert sensitivity.measure(wanted, lambda *pair: 1 / 0, journal) == found


def test_costs_are_measured_or_foretold_from_the_probe() -> None:
    measured = {(one.tensor.name, "q4_0"): 0.004 for one in CANDIDATES}
    measured["blk.0.ffn_up.weight", "q2_K"] = 0.9
    found = sensitivity.costs(CANDIDATES, measured, share)
    assert found["blk.0.ffn_up.weight", "q2_K"] == 0.9
    assert found["blk.1.ffn_up.weight", "q2_K"] == pytest.approx(0.004 * 0.1 / 0.008)
    assert found["blk.1.ffn_up.weight", "q6_K"] == pytest.approx(0.004 * 0.0005 / 0.008)


def test_noise_below_nothing_still_orders_the_formats() -> None:
    measured = {(one.tensor.name, "q4_0"): -1e-10 for one in CANDIDATES}
    found = sensitivity.costs(CANDIDATES, measured, share)
    name = "blk.0.ffn_up.weight"
    assert 0 < found[name, "q6_K"] < found[name, "q4_0"]


def test_the_proxy_is_judged_by_rank() -> None:
    measured = {
        (one.tensor.name, kind): (layer + 1) * SHARES[kind] ** 1.2
        for layer, one in enumerate(CANDIDATES)
        for kind in TYPES
    }
    found = sensitivity.proxy_rank_correlation(CANDIDATES, measured, share)
    assert found is not None and found > 0.95
    wrong = {pair: 1 / value if pair[1] != "q4_0" else value for pair, value in measured.items()}
    against = sensitivity.proxy_rank_correlation(CANDIDATES, wrong, share)
    assert against is not None and against < -0.8
    del measured["blk.0.ffn_up.weight", "q6_K"]
    assert sensitivity.proxy_rank_correlation(CANDIDATES, measured, share) is None
