"""The learning rate's course, against values worked out by hand."""

from __future__ import annotations

import pytest

from plm_edge.model.schedule import Schedule

WSDC = Schedule(peak=6.0, floor_ratio=1 / 6, warmup_share=0.1, stable_share=0.5, decay_share=0.3)


def test_wsdc_warms_up_holds_decays_and_stays() -> None:
    rates = [WSDC.rate(step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([0.6, 1.2, 1.8])
    assert rates[10:51] == pytest.approx([6.0] * 41)
    assert rates[65] == pytest.approx(3.5)  # half way down a cosine from 6 to 1
    assert rates[80:] == pytest.approx([1.0] * 20)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("decay", "half_way"), [("linear", 3.5), ("exponential", 6**0.5)])
def test_the_decay_form_is_a_choice(decay: str, half_way: float) -> None:
    schedule = Schedule(**{**WSDC.__dict__, "decay": decay})
    assert schedule.rate(65, 100) == pytest.approx(half_way)


def test_wsd_has_no_constant_tail_and_cosine_no_plateau() -> None:
    wsd = Schedule(**{**WSDC.__dict__, "kind": "wsd"})
    assert wsd.rate(69, 100) == pytest.approx(6.0)
    assert wsd.rate(99, 100) < 1.05
    cosine = Schedule(**{**WSDC.__dict__, "kind": "cosine"})
    assert cosine.rate(55, 100) == pytest.approx(3.5)
    assert Schedule(**{**WSDC.__dict__, "kind": "constant"}).rate(99, 100) == 6.0


def test_plms_end_points_are_the_default() -> None:
    assert Schedule().rate(10**6 - 1, 10**6) == pytest.approx(5e-6)


@pytest.mark.parametrize(
    "wrong", [{"peak": 0.0}, {"floor_ratio": 0.0}, {"stable_share": 0.9}, {"warmup_share": -1.0}]
)
def test_impossible_shares_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|above"):
        Schedule(**wrong)  # type: ignore[arg-type]
