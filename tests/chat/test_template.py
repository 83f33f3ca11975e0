"""Templates run as Hugging Face meant them, and cannot do more than make a prompt."""

from __future__ import annotations

import signal
import time

import pytest

from plm_edge.chat import template
from plm_edge.chat.template import CHATML, ChatTemplate
from plm_edge.errors import InputError

HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi {{ 1 }}"}]


def render(source: str, messages: list[dict[str, str]] = HELLO) -> str:
    return ChatTemplate(source, name="model.gguf", bos="<s>", eos="</s>").render(messages)


def test_chatml_opens_the_answer_and_leaves_content_alone() -> None:
    assert render(CHATML) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi {{ 1 }}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_blocks_take_their_line_with_them() -> None:
    assert render("  {% if true %}\nA\n  {% endif %}\nB") == "A\nB"


def test_what_transformers_offers_is_there() -> None:
    assert render("{{ bos_token }}{{ eos_token }}") == "<s></s>"
    assert render("{{ messages[1]|tojson }}") == '{"role": "user", "content": "Hi {{ 1 }}"}'
    assert render("{% for m in messages %}{% break %}{% endfor %}ok") == "ok"
    assert render("{% generation %}said{% endgeneration %}") == "said"
    assert render("{{ strftime_now('%Y') }}").isdigit()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}", "line 1: Unexpected end of template"),
        ("a\nb\n{{ messages[0 }}", "line 3: "),
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ messages[0].content.nothing.at.all }}", "nothing"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages.__class__.__mro__ }}", "refused: "),
        ("{{ ''.__class__ }}{{ cycler.__init__.__globals__.os.popen('id').read() }}", "refused: "),
        ("{{ messages.append(1) }}", "refused: "),
        ("{{ 9 ** 999999999 }}", "refused: a number of"),
        ("{{ 'a' * 10000000000 }}", "refused: 10000000000 repeated items"),
        ("{{ 1000000000 * [1] }}", "refused: 1000000000 repeated items"),
        ("{{ '%1000000000d' % 1 }}", "refused: % on text"),
        ("{{ 'x'.ljust(20000000000) }}", "needs too much memory"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"),
        ("{% include '/etc/passwd' %}", "no loader"),
    ],
)
def test_a_broken_or_hostile_template_is_one_line(source: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        render(source)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("model.gguf: chat template: ")
    assert reason in caught.value.message
    assert caught.value.hint


def test_a_template_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "TIME_LIMIT_SECONDS", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    started = time.monotonic()
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(InputError, match=r"no end after 0\.2 s"):
        render(loops)
    assert time.monotonic() - started < 60  # to its end it would take years
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_memory_limit_is_lifted_afterwards() -> None:
    with pytest.raises(InputError, match="too much memory"):
        render("{{ 'x'.ljust(20000000000) }}")
    assert len(bytearray(300 << 20)) == 300 << 20


def test_a_template_works_in_another_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(render, "{{ messages|length }}").result() == "2"
