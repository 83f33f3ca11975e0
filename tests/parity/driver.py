"""A program that runs an engine's libllama in a process of its own, told what to do in JSON lines.

Two builds of libllama cannot live in one process, and one that aborts must not take the tests
with it. Each line on stdin is a job: a model, a context and a list of steps; the answer is one
line on stdout, and the logits of all decoded tokens lie in the job's .npy file.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
FLASH = {"auto": -1, "off": 0, "on": 1}


class Session:
    """One context on a model, and the logits that came out of it."""

    def __init__(self, model: Any, job: dict[str, Any]) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = job.get("n_ctx", 512)
        params.n_batch = job.get("n_batch", 512)
        params.n_ubatch = job.get("n_ubatch", params.n_batch)
        params.n_seq_max = job.get("n_seq_max", 1)
        params.n_threads = params.n_threads_batch = job.get("threads", 1)
        params.kv_unified = job.get("kv_unified", False)
        params.flash_attn_type = FLASH[job.get("flash", "auto")]
        params.type_k = params.type_v = CACHE_TYPES[job.get("cache", "f32")]
        self.context = llama_cpp.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("no context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.logits: list[np.ndarray] = []
        self.saved: dict[str, bytes] = {}

    def close(self) -> None:
        llama_cpp.llama_free(self.context)

    def decode(self, *parts: tuple[int, Sequence[int]]) -> None:
        """Decode tokens of one or several sequences in one batch; keeps every token's logits."""
        count = sum(len(tokens) for _, tokens in parts)
        batch = llama_cpp.llama_batch_init(count, 0, 1)
        index = 0
        for sequence, tokens in parts:
            start = llama_cpp.llama_memory_seq_pos_max(self.memory, sequence) + 1
            for offset, token in enumerate(tokens):
                batch.token[index] = token
                batch.pos[index] = start + offset
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = 1
                index += 1
        batch.n_tokens = count
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        for i in range(count):
            row = llama_cpp.llama_get_logits_ith(self.context, i)
            self.logits.append(np.ctypeslib.as_array(row, shape=(self.vocabulary,)).copy())

    def pieces(self, sequence: int, tokens: Sequence[int], size: int) -> None:
        for start in range(0, len(tokens), size):
            self.decode((sequence, tokens[start : start + size]))

    def greedy(self, sequence: int, count: int) -> None:
        """Continue from the last logits with their largest, `count` times."""
        for _ in range(count):
            self.decode((sequence, [int(self.logits[-1].argmax())]))

    def remove(self, sequence: int, start: int, end: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self.memory, sequence, start, end):
            raise RuntimeError("llama_memory_seq_rm refused")

    def shift(self, sequence: int, start: int, end: int, distance: int) -> None:
        if not llama_cpp.llama_memory_can_shift(self.memory):
            raise RuntimeError("this memory cannot shift")
        llama_cpp.llama_memory_seq_add(self.memory, sequence, start, end, distance)

    def copy(self, source: int, target: int) -> None:
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self.memory, True)

    def save(self, name: str) -> None:
        size = llama_cpp.llama_state_get_size(self.context)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_get_data(self.context, buffer, size)
        self.saved[name] = bytes(buffer)[:written]

    def load(self, name: str) -> None:
        data = self.saved[name]
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        if llama_cpp.llama_state_set_data(self.context, buffer, len(data)) != len(data):
            raise RuntimeError("llama_state_set_data read something else")

    def save_sequence(self, name: str, sequence: int) -> None:
        size = llama_cpp.llama_state_seq_get_size(self.context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(self.context, buffer, size, sequence)
        self.saved[name] = bytes(buffer)[:written]

    def load_sequence(self, name: str, sequence: int) -> None:
        data = self.saved[name]
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        if llama_cpp.llama_state_seq_set_data(self.context, buffer, len(data), sequence) == 0:
            raise RuntimeError("llama_state_seq_set_data refused")


def load_model(path: str) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise RuntimeError(f"{path}: cannot be loaded")
    return model


def answer(models: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    path = job["model"]
    if path not in models:
        models[path] = load_model(path)
    session = Session(models[path], job)
    try:
        for name, *arguments in job["steps"]:
            getattr(session, name)(*arguments)
        np.save(job["out"], np.array(session.logits))
        saved = {name: len(data) for name, data in session.saved.items()}
        return {"saved_bytes": saved}
    finally:
        session.close()


def main() -> None:
    # The engine may print; only answers go to the pipe that is read.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    llama_cpp.llama_backend_init()
    models: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            result = answer(models, json.loads(line))
        except RuntimeError as error:
            result = {"error": str(error)}
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
