"""Prints the ids the engine gives to texts; run by tests in a process of its own.

usage: engine_ids.py JOBS.json, a list of [GGUF, texts, parse special tokens]. The engine's library
is found through LLAMA_CPP_LIB_PATH.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

Job = tuple[str, list[str], bool]


def ids_of_engine(lib_dir: Path, place: Path, jobs: Sequence[Job]) -> list[list[list[int]]]:
    """The engine's ids for the texts of every job, without added begin and end."""
    path = place / "jobs.json"
    path.write_text(json.dumps(jobs), encoding="utf-8")
    environment = {**os.environ, "LLAMA_CPP_LIB_PATH": str(lib_dir)}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[list[int]]] = json.loads(done.stdout)
    return found


def main() -> None:
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    answers = []
    for path, texts, special in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        assert model, path
        vocab = llama_cpp.llama_model_get_vocab(model)
        ids = (llama_cpp.llama_token * 4096)()
        answers.append([])
        for text in texts:
            data = text.encode()
            count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, 4096, False, special)
            answers[-1].append(list(ids[:count]))
        llama_cpp.llama_model_free(model)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
