"""Times every operation of a token in an engine; run as a program, one per engine and file.

    python -m plm_edge.bench.op_timer FILE THREADS DEPTH TOKENS CACHE_TYPE FLASH

with LLAMA_CPP_LIB_PATH naming the engine. It prints one JSON object. The engine is not built for
this: its own hook for looking at tensors (`cb_eval`) makes it run one operation at a time, and
the clock is read before and after. What starting and ending a single operation costs is known
from those that do nothing (views) and taken off; whole tokens are timed without the hook.
"""

from __future__ import annotations

import ctypes
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from plm_edge.engine.tensor import Tensor

_FLASH = {"auto": -1, "off": 0, "on": 1}
_CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
_BATCH_TOKENS = 512
_DOES_NOTHING = (b"VIEW", b"RESHAPE", b"PERMUTE", b"TRANSPOSE", b"NONE")


class Clock:
    """The hook: while it is on, sums the time of each operation by its kind and its sources."""

    def __init__(self, op_name: Callable[[int], bytes]) -> None:
        self._op_name = op_name
        self._started = 0.0
        self.is_on = False
        self.seconds: dict[tuple[str, tuple[str, ...]], list[float]] = {}

    def __call__(self, address: int, asks: bool, _data: object) -> bool:
        if not self.is_on:
            return False
        if asks:
            self._started = time.perf_counter()
            return True
        taken = time.perf_counter() - self._started
        self.seconds.setdefault(self._key(address), []).append(taken)
        return True

    def _key(self, address: int) -> tuple[str, tuple[str, ...]]:
        tensor = Tensor.from_address(address)
        return self._op_name(tensor.op).decode(), tuple(_source_names(tensor))


def _source_names(tensor: Tensor) -> list[str]:
    names = []
    for source in tensor.src:
        if source:
            whole = source.contents.view_src
            names.append((whole.contents if whole else source.contents).name.decode())
    return names


class Timer:
    """A model in an engine, with a context that runs freely and one that is hooked."""

    def __init__(self, binding: Any, path: str, tokens: int) -> None:
        self.binding = binding
        parameters = binding.llama_model_default_params()
        self.model = binding.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise SystemExit(f"cannot load {path}")
        base = ctypes.CDLL(f"{binding._base_path}/libggml-base.so")
        base.ggml_op_name.restype = ctypes.c_char_p
        self.clock = Clock(base.ggml_op_name)
        self._hook = binding.ggml_backend_sched_eval_callback(self.clock)
        self._random = random.Random(0)  # noqa: S311 - token ids to compute with, not a secret
        vocabulary = binding.llama_model_get_vocab(self.model)
        self._vocabulary_size = binding.llama_vocab_n_tokens(vocabulary)
        self._tokens = tokens

    def context(
        self, threads: int, depth: int, cache_type: str, flash: str, *, hooked: bool
    ) -> Any:
        """A context that holds `depth` tokens and those that will be timed."""
        parameters = self.binding.llama_context_default_params()
        parameters.n_ctx = depth + 2 * self._tokens + 8
        parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = _CACHE_TYPES[cache_type]
        parameters.flash_attn_type = _FLASH[flash]
        if hooked:
            parameters.cb_eval = self._hook
        return self.binding.llama_init_from_model(self.model, parameters)

    def feed(self, context: Any, count: int) -> None:
        """Decode random tokens, as llama-bench does."""
        while count > 0:
            size = min(count, _BATCH_TOKENS)
            ids = (self.binding.llama_token * size)(
                *(self._random.randrange(self._vocabulary_size) for _ in range(size))
            )
            if self.binding.llama_decode(context, self.binding.llama_batch_get_one(ids, size)):
                raise SystemExit("the engine refused a batch")
            self.binding.llama_synchronize(context)
            count -= size

    def free_tokens(self, context: Any) -> list[float]:
        """Seconds of each token without the hook, the first one left out."""
        seconds = []
        for _ in range(self._tokens + 1):
            started = time.perf_counter()
            self.feed(context, 1)
            seconds.append(time.perf_counter() - started)
        return seconds[1:]

    def hooked_tokens(self, context: Any) -> None:
        """Run the tokens one operation at a time."""
        self.feed(context, 1)
        self.clock.is_on = True
        for _ in range(self._tokens):
            self.feed(context, 1)
        self.clock.is_on = False

    def move_state(self, source: Any, target: Any) -> None:
        """Hand over the cache, so that the depth is computed once."""
        size = self.binding.llama_state_seq_get_size(source, 0)
        buffer = (ctypes.c_uint8 * size)()
        self.binding.llama_state_seq_get_data(source, buffer, size, 0)
        if not self.binding.llama_state_seq_set_data(target, buffer, size, 0):
            raise SystemExit("the engine cannot restore its state")


def start_seconds(seconds: dict[tuple[str, tuple[str, ...]], list[float]]) -> float:
    """What it costs to run an operation that does nothing."""
    idle = [
        value
        for (op, _), values in seconds.items()
        if op.encode() in _DOES_NOTHING
        for value in values
    ]
    return statistics.median(idle) if idle else 0.0


def per_token(values: list[float], tokens: int, start: float) -> float:
    """Seconds of an operation in a token: its median, since a shared machine interrupts some."""
    return max(statistics.median(values) - start, 0.0) * len(values) / tokens


def measure(path: str, threads: int, depth: int, tokens: int, cache: str, flash: str) -> Any:
    """Time free tokens and hooked ones; seconds per token and per operation."""
    import llama_cpp.llama_cpp as binding

    quiet = binding.llama_log_callback(lambda level, text, data: None)
    binding.llama_log_set(quiet, None)
    binding.llama_backend_init()
    timer = Timer(binding, path, tokens)
    free = timer.context(threads, depth, cache, flash, hooked=False)
    timer.feed(free, depth)
    hooked = timer.context(threads, depth, cache, flash, hooked=True)
    if depth:
        timer.move_state(free, hooked)
    token_seconds = timer.free_tokens(free)
    timer.hooked_tokens(hooked)
    start = start_seconds(timer.clock.seconds)
    return {
        "token_seconds": token_seconds,
        "start_seconds": start,
        "ops": [
            {"op": op, "sources": sources, "calls": len(values) / tokens, "seconds": seconds}
            for (op, sources), values in timer.clock.seconds.items()
            for seconds in [per_token(values, tokens, start)]
        ],
    }


def main() -> None:
    """Read the arguments, measure, print."""
    path, threads, depth, tokens, cache, flash = sys.argv[1:]
    found = measure(path, int(threads), int(depth), int(tokens), cache, flash)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
