"""One question, one answer: `-p`, or whatever is piped in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, BinaryIO

from plm_edge.chat.interrupt import interrupt_flag
from plm_edge.chat.screen import Screen
from plm_edge.chat.talk import Chat, Reply
from plm_edge.errors import InputError

STDIN_LIMIT_BYTES = 64 << 20


def read_prompt(stream: BinaryIO) -> str:
    """All of `stream` as one message; `InputError` if it is empty or not UTF-8."""
    raw = stream.read(STDIN_LIMIT_BYTES + 1)
    if len(raw) > STDIN_LIMIT_BYTES:
        raise InputError(f"stdin: more than {STDIN_LIMIT_BYTES >> 20} MB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"stdin: byte 0x{raw[error.start]:02x} at offset {error.start} is not UTF-8",
            hint="iconv -f latin1 -t utf-8",
        ) from error
    return checked(text.removesuffix("\n"), "stdin")


def checked(text: str, source: str) -> str:
    """`text` if there is something in it that can be said to a model."""
    if not text.strip():
        raise InputError(f"{source}: nothing to say", hint='pass -p "..." or pipe a text in')
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise InputError(f"{source}: not UTF-8")
    return text


def answer(chat: Chat, prompt: str, screen: Screen) -> Reply:
    """Stream the answer to `prompt`."""
    with interrupt_flag() as is_interrupted:
        try:
            reply = chat.ask(prompt, screen.answer, is_interrupted)
        finally:
            screen.end_answer()
    screen.notices(reply)
    screen.status(reply, chat.model)
    return reply


def answer_silently(chat: Chat, prompt: str) -> Reply:
    """The answer to `prompt`, shown nowhere."""
    with interrupt_flag() as is_interrupted:
        return chat.ask(prompt, lambda text: None, is_interrupted)


def document(chat: Chat, prompt: str, reply: Reply) -> dict[str, Any]:
    """Everything about one answer, for machines."""
    model = chat.model
    is_emulated = model.options.is_emulated
    return {
        "model": asdict(chat.model_id),
        "random_weights": model.header.is_random,
        "emulated": is_emulated,
        "system": chat.conversation.system,
        "prompt": prompt,
        "answer": reply.text,
        "finish": reply.finish,
        "sampling": asdict(chat.sampling),
        "stats": {
            "prompt_tokens": reply.prompt_tokens,
            "answer_tokens": reply.answer_tokens,
            **({} if is_emulated else _speeds(reply)),
            "context_tokens": model.context_tokens,
            "used_tokens": model.used_tokens,
            "cache_type": model.options.cache_type,
            "cache_bytes_per_token": model.cache_bytes_per_token,
            "threads": model.options.threads,
        },
    }


def _speeds(reply: Reply) -> dict[str, float]:
    return {
        "prompt_seconds": reply.prompt_seconds,
        "answer_seconds": reply.answer_seconds,
        "prompt_tokens_per_second": reply.prompt_tokens_per_second,
        "answer_tokens_per_second": reply.answer_tokens_per_second,
    }
