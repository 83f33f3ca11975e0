"""A scripted model per session, and the engine it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plm_edge.chat.model import ChatModel, ModelOptions
from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import read_header
from tests.chat.scripted import Script, write_scripted

Load = Callable[..., ChatModel]


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers everything with "One two three"."""
    return write_scripted(tmp_path_factory.mktemp("scripted") / "scripted.gguf")


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that goes on until it is stopped."""
    script = Script((" tick", " tock"), loops=True, context_tokens=1 << 18, name="endless")
    return write_scripted(tmp_path_factory.mktemp("endless") / "endless.gguf", script)


@pytest.fixture
def load(engine: Engine) -> Iterator[Load]:
    """Loads models in this process, and frees them afterwards."""
    models: list[ChatModel] = []

    def open_model(path: Path, context_tokens: int = 0) -> ChatModel:
        options = ModelOptions(context_tokens, threads=1)
        models.append(ChatModel(read_header(path), engine.lib_dir, options))
        return models[-1]

    yield open_model
    for model in models:
        model.close()


@pytest.fixture
def with_engine(engine: Engine) -> dict[str, str]:
    """What a program under test needs in its environment to find the built engine."""
    return {"PLM_EDGE_CACHE": str(engine.folder.parent.parent)}
