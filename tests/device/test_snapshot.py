"""Questions and answers in one round trip."""

from __future__ import annotations

from plm_edge.device import snapshot
from plm_edge.device.local import LocalTransport


def test_each_question_gets_its_own_answer() -> None:
    questions = {
        "plain": "echo one; echo two",
        "failing": "echo before; no-such-program; exit 9",
        "silent": "true",
        "awkward": "printf 'no line end'",
        "folder": 'echo "$1"',
        "leaking": 'echo "${leak:-nothing}"; cd /; set -e; leak=1',
        "after": 'echo "${leak:-nothing} here"',
    }
    transport = LocalTransport("here")

    answers = snapshot.take(transport, questions)

    assert answers == {
        "plain": "one\ntwo",
        "failing": "before",
        "silent": "",
        "awkward": "no line end",
        "folder": transport.folder,
        "leaking": "nothing",
        "after": "nothing here",
    }


def test_every_question_can_be_asked_of_any_linux() -> None:
    answers = snapshot.take(LocalTransport("here"), {**snapshot.PROBE, **snapshot.DOCTOR})

    assert set(answers) == {*snapshot.PROBE, *snapshot.DOCTOR}
    assert "MemTotal" in answers["meminfo"]
    assert answers["mounts"]
