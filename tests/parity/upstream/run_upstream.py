"""Runs upstream's converter on a list of jobs; started by `test_converter` in its own process.

usage: run_upstream.py TREE JOBS.json, jobs being [folder, type, output, pre-tokenizer].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    tree, jobs = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    sys.path.insert(0, tree)
    import convert_hf_to_gguf
    from conversion.base import TextModel

    for folder, kind, output, pre in jobs:
        # Upstream knows a pre-tokenizer by a hash of known vocabularies; ours is none of them.
        TextModel.get_vocab_base_pre = lambda self, tokenizer, name=pre: name
        sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", output, "--outtype", kind]
        convert_hf_to_gguf.main()


main()
