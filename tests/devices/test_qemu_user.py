"""Cross-built engines under qemu's user emulation give the tokens this machine's engine gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from plm_edge.engine.cache import Engine
from tests.devices.conftest import MODEL, cross_engine
from tests.devices.user import User

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        shutil.which("qemu-aarch64") is None,
        reason="qemu-aarch64 missing: sudo apt-get install qemu-user",
    ),
]
PROMPT = "What does os.path.join do?"
FILES = ("q8.gguf", "q4.gguf")
TOKENS = "24"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Someone with a small model and no device."""
    user = User(tmp_path_factory.mktemp("emulated"), {})
    user.succeeds("convert", str(MODEL), "-o", "f16.gguf", "--type", "f16")
    for recipe in ("q4", "q8"):
        user.succeeds("quantize", "f16.gguf", "-o", f"{recipe}.gguf", "--recipe", recipe)
    return user


def answer(user: User, file: str, *where: str) -> str:
    """The likeliest tokens, as text."""
    words = ("--temperature", "0", "--max-tokens", TOKENS, "--json", "-p", PROMPT)
    return str(json.loads(user.succeeds("chat", file, *words, *where))["answer"])


@pytest.fixture(scope="module")
def answers(user: User, engine: Engine) -> dict[str, str]:
    """What this machine's engine says."""
    return {file: answer(user, file) for file in FILES}


@pytest.mark.parametrize("profile", ["rpi5", "android-arm64", "rpi4", "android-arm64-v8"])
def test_greedy_tokens_are_this_machines(
    profile: str, user: User, answers: dict[str, str], tmp_path: Path
) -> None:
    cross_engine(profile, tmp_path / "no-config")
    name = f"{profile}-here"
    user.succeeds("device", "add", name, "--extends", profile, "--emulated")

    assert {file: answer(user, file, "--device", name) for file in FILES} == answers
