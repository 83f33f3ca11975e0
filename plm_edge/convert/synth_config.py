"""The `config.json` and `generation_config.json` of a synthesized checkpoint, as PLM's are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plm_edge.convert.synth_storage import TORCH_NAMES
from plm_edge.convert.synth_tokenizer import END_OF_TEXT, TURN_END, Vocabulary
from plm_edge.shape import PlmShape


def write_config(folder: Path, shape: PlmShape, vocabulary: Vocabulary, dtype: str) -> None:
    """Write both files into `folder`."""
    _write_json(folder / "config.json", _config(shape, vocabulary, dtype))
    _write_json(folder / "generation_config.json", _generation_config(vocabulary))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _config(shape: PlmShape, vocabulary: Vocabulary, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["PLMForCausalLM"],
        "model_type": "plm",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": vocabulary.id_of(END_OF_TEXT),
        "eos_token_id": vocabulary.id_of(TURN_END),
        "hidden_act": "relu2",
        "initializer_range": 0.02,
        "num_key_value_heads": shape.num_attention_heads,
        "q_lora_rank": None,
        "rope_scaling": None,
        **asdict(shape),
        "tie_word_embeddings": True,
        "torch_dtype": TORCH_NAMES[dtype],
        "use_cache": True,
        "plm_edge_random": True,
    }


def _generation_config(vocabulary: Vocabulary) -> dict[str, Any]:
    stops = [vocabulary.id_of(TURN_END), vocabulary.id_of(END_OF_TEXT)]
    return {"bos_token_id": vocabulary.id_of(END_OF_TEXT), "eos_token_id": stops}
