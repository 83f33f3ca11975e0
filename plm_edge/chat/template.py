"""Chat templates: the Jinja program inside a GGUF, run in a sandbox with limits.

A template comes with the file, so it is code from whoever made the file. It sees no Python
object but text, may not compute huge values, and gets a few seconds and a bounded memory.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from plm_edge.errors import InputError

Message = dict[str, str]

TIME_LIMIT_SECONDS = 5.0
MEMORY_LIMIT_BYTES = 256 << 20
NUMBER_LIMIT_BITS = 4096
REPEAT_LIMIT = 1 << 20

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatTemplate:
    """A compiled template; `name` is the file it came from, for errors."""

    def __init__(self, source: str, *, name: str, bos: str = "", eos: str = "") -> None:
        self.source = source
        self._name = name
        self._specials = {"bos_token": bos, "eos_token": eos}
        self._program = self._guarded(lambda: _environment().from_string(source))

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for `messages`, up to where the answer begins; `InputError` if it fails."""
        values = {"messages": list(messages), "add_generation_prompt": True, **self._specials}
        text: str = self._guarded(lambda: self._program.render(**values))
        return text

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            with _limits():
                return work()
        except jinja2.TemplateSyntaxError as error:
            raise self._error(f"line {error.lineno}: {error.message}") from error
        except SecurityError as error:
            raise self._error(f"refused: {error}") from error
        except _OutOfTimeError as error:
            raise self._error(f"no end after {TIME_LIMIT_SECONDS:g} s") from error
        except MemoryError as error:
            raise self._error("needs too much memory") from error
        except RecursionError as error:
            raise self._error("nested too deeply") from error
        except Exception as error:
            # A template can make any operation of Python's fail; all of it is the file's fault.
            raise self._error(str(error) or type(error).__name__) from error

    def _error(self, reason: str) -> InputError:
        line = " ".join(reason.split())[:300]
        return InputError(
            f"{self._name}: chat template: {line}",
            hint="the file's chat template is broken; convert the checkpoint again",
        )


class _OutOfTimeError(BaseException):
    """Raised by the timer; not an `Exception`, so that no template machinery swallows it."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses numbers and texts that would take forever to build."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise SecurityError("% on text")
        if operator != "%":
            _refuse_huge(operator, left, right)
        return super().call_binop(context, operator, left, right)


def _refuse_huge(operator: str, left: Any, right: Any) -> None:
    """Raise `SecurityError` for a product or power that is too big to be of use in a prompt."""
    if isinstance(left, int) and isinstance(right, int):
        bits = max(left.bit_length(), 1)
        size = bits * max(right, 1) if operator == "**" else bits + right.bit_length()
        if size > NUMBER_LIMIT_BITS:
            raise SecurityError(f"a number of {size} bits")
        return
    for items, count in ((left, right), (right, left)):
        repeats = isinstance(items, str | list | tuple) and isinstance(count, int)
        if repeats and len(items) * count > REPEAT_LIMIT:
            raise SecurityError(f"{len(items) * count} repeated items")


class _GenerationTag(Extension):
    """`{% generation %}` marks what to train on in Hugging Face templates; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which a prompt must not have.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # a local clock is what a template shows


@contextmanager
def _limits() -> Iterator[None]:
    with _time_limit(TIME_LIMIT_SECONDS), _memory_limit(MEMORY_LIMIT_BYTES):
        yield


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can have a timer
        return

    def ring(number: int, frame: object) -> None:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory_limit(extra_bytes: int) -> Iterator[None]:
    used_bytes = _address_space_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = used_bytes + extra_bytes
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    if math.isinf(used_bytes) or any(limit <= ceiling for limit in known):
        yield  # nothing to measure by, or the process is confined more tightly already
        return
    resource.setrlimit(resource.RLIMIT_AS, (int(ceiling), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space_bytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return math.inf
    return pages * resource.getpagesize()
