"""The JSON files a tokenizer is spread over, each parsed once (PLM's tokenizer.json has 11 MB)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.convert.json_file import read_object_if_there


@dataclass(frozen=True)
class TokenizerFiles:
    """What lies in a checkpoint folder; an absent file is an empty table."""

    folder: Path
    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    model: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> TokenizerFiles:
        """Parse tokenizer.json, tokenizer_config.json and config.json."""
        names = ("tokenizer.json", "tokenizer_config.json", "config.json")
        return cls(folder, *(read_object_if_there(folder / name) for name in names))

    @property
    def tokenizer_path(self) -> Path:
        """tokenizer.json, for messages."""
        return self.folder / "tokenizer.json"

    @property
    def config_path(self) -> Path:
        """tokenizer_config.json, for messages."""
        return self.folder / "tokenizer_config.json"

    @property
    def is_byte_level(self) -> bool:
        """Whether tokenizer.json holds a BPE without sentencepiece's byte fallback."""
        model = self.tokenizer.get("model")
        if not isinstance(model, dict):
            return False
        return model.get("type", "BPE") == "BPE" and not model.get("byte_fallback")
