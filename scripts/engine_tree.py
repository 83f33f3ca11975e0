"""Bring a folder up to date with the patched engine source; only files that differ are written.

Usage: scripts/engine_tree.py FOLDER     (`plm-edge engine source` writes a new folder each time)
"""

from __future__ import annotations

import sys
from pathlib import Path

from plm_edge.engine.patches import load
from plm_edge.engine.plan import host_plan
from plm_edge.engine.tree import bring_up_to_date

folder = Path(sys.argv[1])
folder.parent.mkdir(parents=True, exist_ok=True)
bring_up_to_date(host_plan("edge", load()), folder)
