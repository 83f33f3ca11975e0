"""Virtual devices, one of each kind per module, and a user who owns them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from plm_edge.device import profile as profiles
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from tests.devices import instructions
from tests.devices import phone as phones
from tests.devices import pi as pis
from tests.devices.debian import Unavailable
from tests.devices.machine import Board
from tests.devices.phone import AdbServer, VirtualPhone
from tests.devices.pi import VirtualPi
from tests.devices.user import ROOT, User
from tests.engine_fixtures import USER_CACHE

MODEL = ROOT / "models" / "plm-nano-random"


def cross_engine(profile: str, no_config: Path) -> Engine:
    """The engine for a profile from the user's cache; skips where it is not built yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE", USER_CACHE)
        patch.setenv("PLM_EDGE_CONFIG", str(no_config))
        patch.delenv("PLM_EDGE_OVERLAY", raising=False)
        engine = build.current_for(profiles.find(profile))
    if engine is None:
        pytest.skip(f"no current engine for {profile}: plm-edge engine build --device {profile}")
    return engine


@pytest.fixture(scope="session")
def a76_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine rpi5 and android-arm64 share."""
    return cross_engine("rpi5", tmp_path_factory.mktemp("no-config"))


@pytest.fixture(scope="session")
def model(a76_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights, quantized; skips where no engine could run it."""
    user = User(tmp_path_factory.mktemp("model"), {})
    user.succeeds("convert", str(MODEL), "-o", "f16.gguf", "--type", "f16")
    user.succeeds("quantize", "f16.gguf", "-o", "plm.q4.gguf", "--recipe", "q4")
    return user.folder / "plm.q4.gguf"


@pytest.fixture(scope="session")
def big_model(a76_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 MB of model: enough to be interrupted on its way."""
    target = tmp_path_factory.mktemp("big") / "big.gguf"
    target.symlink_to(instructions.models() / "edge.gguf")
    return target


@pytest.fixture(scope="module")
def running() -> Iterator[ExitStack]:
    """Ends a module's devices."""
    with ExitStack() as stack:
        yield stack


def started_pi(stack: ExitStack, folder: Path, board: Board) -> VirtualPi:
    """A Pi that runs as long as `stack`."""
    try:
        return stack.enter_context(pis.running(folder, board))
    except Unavailable as error:
        pytest.skip(str(error))


def started_phone(stack: ExitStack, server: AdbServer, *, is_secure: bool = False) -> VirtualPhone:
    """A phone that runs as long as `stack`."""
    try:
        return stack.enter_context(phones.running(server, is_secure=is_secure))
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pi(running: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> VirtualPi:
    """A virtual Raspberry Pi 5, as far as its CPU goes."""
    return started_pi(running, tmp_path_factory.mktemp("pi"), Board("cortex-a76"))


@pytest.fixture(scope="module")
def adb_server(running: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> AdbServer:
    """An adb server of the tests' own."""
    try:
        return running.enter_context(phones.adb_server(tmp_path_factory.mktemp("adb")))
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def phone(running: ExitStack, adb_server: AdbServer) -> VirtualPhone:
    """A virtual phone, plugged in and authorized."""
    return started_phone(running, adb_server)
