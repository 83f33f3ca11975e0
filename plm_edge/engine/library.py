"""Brings our libllama into the process through llama-cpp-python, and keeps it quiet."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

from plm_edge.errors import InputError

LIBRARY_VARIABLE = "LLAMA_CPP_LIB_PATH"

# On a failed assertion ggml would start a debugger on this process and print pages of its stack.
CRASH_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}

# enum ggml_log_level of ggml.h
_LEVEL_ERROR, _LEVEL_CONTINUED = 4, 5
_KEPT_LINES = 50


class LlamaLog:
    """Takes llama.cpp's log: shows it when asked, and remembers complaints for error messages."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._complaints: deque[str] = deque(maxlen=_KEPT_LINES)
        self._level = 0

    def write(self, level: int, text: str) -> None:
        """Called by llama.cpp for each piece of log."""
        self._level = self._level if level == _LEVEL_CONTINUED else level
        if self._verbose:
            sys.stderr.write(text)
            sys.stderr.flush()
        if self._level == _LEVEL_ERROR and text.strip():
            self._complaints.append(text.strip())

    def first_complaint(self) -> str:
        """The first error since the last call, which is the cause of those that follow it."""
        line = self._complaints[0] if self._complaints else ""
        self._complaints.clear()
        # llama.cpp opens its lines with the name of the function.
        return line.split(": ", 1)[-1] if line.split(": ", 1)[0].isidentifier() else line


def load_library(lib_dir: Path, log: LlamaLog) -> Any:
    """The binding's low-level module, on top of the engine in `lib_dir`.

    The binding picks its library once, when it is first imported, so a process has one engine.
    """
    loaded = sys.modules.get("llama_cpp.llama_cpp")
    if loaded is not None and Path(loaded._base_path) != lib_dir:
        raise InputError(f"this process already uses the engine in {loaded._base_path}")
    os.environ.update({**CRASH_ENVIRONMENT, LIBRARY_VARIABLE: str(lib_dir)})
    import llama_cpp.llama_cpp as binding

    _route_log(binding, log)
    binding.llama_backend_init()
    return binding


def _route_log(binding: Any, log: LlamaLog) -> None:
    def receive(level: int, text: bytes, data: object) -> None:
        log.write(level, text.decode("utf-8", "replace"))

    callback = binding.llama_log_callback(receive)
    binding.llama_log_set(callback, ctypes.c_void_p(0))
    # C keeps only the address: without a reference here Python would free the function.
    binding.plm_edge_log_callback = callback
