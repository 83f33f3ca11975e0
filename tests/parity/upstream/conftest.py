"""Upstream's own converter needs torch and transformers; without them it is not collected."""

from __future__ import annotations

import importlib.util

NEEDED = ("torch", "transformers")
if not all(importlib.util.find_spec(name) for name in NEEDED):
    collect_ignore_glob = ["test_*.py"]
