"""Cross-built engines under qemu's user emulation give the tokens this machine's engine gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from plm_edge.device import profile as profiles
from plm_edge.engine.cache import Engine
from tests.devices.conftest import MODEL, cross_engine
from tests.devices.user import ROOT, User

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        shutil.which("qemu-aarch64") is None,
        reason="qemu-aarch64 missing: sudo apt-get install qemu-user",
    ),
]
PROMPT = "What does os.path.join do?"
PROFILES = (
    *("rpi5", "rpi4", "rpi-zero-2w"),
    *("android-arm64", "android-arm64-v8", "snapdragon-8-gen-3"),
)
TOKENS = "32"
# Of 32 tokens in a row the likeliest two are never nearer than rounding in f32. Quantized random
# weights come nearer within ten tokens, so those are compared as whole distributions instead.
EXACT = "f32.gguf"
TRAINED = ROOT / "models" / "plm-nano"
QUANTIZED = ("q8", "q4")
TEXT_CHARACTERS = 1000


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Someone with a small model and no device."""
    user = User(tmp_path_factory.mktemp("emulated"), {})
    user.succeeds("convert", str(MODEL), "-o", EXACT, "--type", "f32")
    user.succeeds("convert", str(MODEL), "-o", "f16.gguf", "--type", "f16")
    for recipe in QUANTIZED:
        user.succeeds("quantize", "f16.gguf", "-o", f"{recipe}.gguf", "--recipe", recipe)
    return user


def answer(user: User, *where: str, file: str = EXACT) -> str:
    """The likeliest tokens, as text."""
    words = ("--temperature", "0", "--max-tokens", TOKENS, "--json", "-p", PROMPT)
    return str(json.loads(user.succeeds("chat", file, *words, *where))["answer"])


@pytest.fixture(scope="module")
def answer_here(user: User, engine: Engine) -> str:
    """What this machine's engine says."""
    return answer(user)


@pytest.mark.parametrize("profile", PROFILES)
def test_greedy_tokens_are_this_machines(
    profile: str, user: User, answer_here: str, tmp_path: Path
) -> None:
    cross_engine(profile, tmp_path / "no-config")
    name = f"{profile}-here"
    user.succeeds("device", "add", name, "--extends", profile, "--emulated")

    # Random weights often say broken characters; what follows one at the very end does not come.
    there = answer(user, "--device", name)
    assert len(there) >= len(answer_here) - 3
    assert answer_here.startswith(there)


@pytest.mark.parametrize("profile", ["rpi5", "android-arm64", "rpi4", "android-arm64-v8"])
def test_plm_nano_in_q4_answers_as_it_does_here(
    profile: str, user: User, engine: Engine, tmp_path: Path
) -> None:
    """A trained model knows what it wants to say, and quantizing it changes that nowhere."""
    cross_engine(profile, tmp_path / "no-config")
    if not (user.folder / "nano.gguf").exists():
        user.succeeds("convert", str(TRAINED), "-o", "nano.f16.gguf", "--type", "f16")
        user.succeeds("quantize", "nano.f16.gguf", "-o", "nano.gguf", "--recipe", "q4")
    words = ("--extends", profile, "--emulated", "--replace")
    user.succeeds("device", "add", f"{profile}-nano", *words)

    there = answer(user, "--device", f"{profile}-nano", file="nano.gguf")
    assert there
    assert there == answer(user, file="nano.gguf")


def test_rearranged_weights_are_told_and_can_be_left_alone(user: User, tmp_path: Path) -> None:
    cross_engine("rpi5", tmp_path / "no-config")
    user.succeeds("device", "add", "rearranging", "--extends", "rpi5", "--emulated")
    words = ("chat", "q4.gguf", "--device", "rearranging", "--max-tokens", "1", "-p", PROMPT)

    for more, is_told in ((("--verbose",), True), (("--verbose", "--no-repack"), False)):
        done = user.plm_edge(*words, *more)
        assert done.returncode == 0, done.stderr
        assert "CPU_Mapped model buffer" in done.stderr
        assert ("CPU_REPACK model buffer" in done.stderr) == is_told


@pytest.fixture(scope="module")
def divergences_here(user: User, engine: Engine) -> dict[str, float]:
    """How far each recipe is from f32 on this machine; leaves f32's distributions in a file."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")[:TEXT_CHARACTERS]
    (user.folder / "text").write_text(text, encoding="utf-8")
    program = [str(engine.tool("llama-perplexity"))]
    perplexity(user, program, EXACT, "--save-all-logits", "base")
    return {recipe: divergence(user, program, recipe) for recipe in QUANTIZED}


def perplexity(user: User, program: Sequence[str], file: str, *words: str) -> str:
    """What llama-perplexity prints for a file on the text."""
    settings = ["-f", "text", "-c", "64", "--chunks", "6", "-t", "1"]
    command = [*program, "-m", file, *settings, *words]
    done = subprocess.run(command, cwd=user.folder, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def divergence(user: User, program: Sequence[str], recipe: str) -> float:
    """The mean Kullback-Leibler divergence from f32 as this machine computes it."""
    words = ("--kl-divergence-base", "base", "--kl-divergence")
    said = perplexity(user, program, f"{recipe}.gguf", *words)
    found = re.search(r"Mean +KLD: +([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize("profile", ["rpi5", "rpi4"])
def test_quantized_weights_mean_the_same(
    profile: str, user: User, divergences_here: dict[str, float], tmp_path: Path
) -> None:
    engine = cross_engine(profile, tmp_path / "no-config")
    cpu = profiles.find(profile).cpu.qemu_cpu
    program = ["qemu-aarch64", "-cpu", str(cpu), str(engine.tool("llama-perplexity"))]

    told = {recipe: divergence(user, program, recipe) for recipe in QUANTIZED}
    assert told == pytest.approx(divergences_here, rel=0.05)
