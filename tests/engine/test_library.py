"""The engine's log: silent, but its first complaint is kept for the error message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plm_edge.engine.cache import Engine
from plm_edge.engine.library import LlamaLog, load_library
from plm_edge.errors import InputError

INFO, WARN, ERROR, CONTINUED = 2, 3, 4, 5


def test_the_first_error_is_the_cause_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = LlamaLog(verbose=False)
    log.write(INFO, "loading\n")
    log.write(WARN, "hm\n")
    log.write(ERROR, "llama_model_load: error loading model: no tensor x\n")
    log.write(CONTINUED, "more\n")
    log.write(ERROR, "failed\n")
    assert log.first_complaint() == "error loading model: no tensor x"
    assert log.first_complaint() == ""
    assert capsys.readouterr() == ("", "")


def test_the_log_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    LlamaLog(verbose=True).write(INFO, "loading\n")
    assert capsys.readouterr().err == "loading\n"


@pytest.mark.engine
def test_a_process_has_one_engine(engine: Engine) -> None:
    log = LlamaLog(verbose=False)
    assert load_library(engine.lib_dir, log) is load_library(engine.lib_dir, log)
    with pytest.raises(InputError, match="already uses the engine in"):
        load_library(Path("/somewhere/else"), log)
    assert os.environ["LLAMA_CPP_LIB_PATH"] == str(engine.lib_dir)
