"""Writes plm-nano's own kind of text, from the modules of one share of its corpus.

    .venv/bin/python scripts/nano_text.py train calibration.txt --letters 300000
    .venv/bin/python scripts/nano_text.py test held-out.txt

With --letters every module gives the same share of them, from its beginning.
The same Python gives the same text. No module is in two shares, so what is measured on `test` has
been seen neither in training (`train`) nor by a search that was calibrated on `train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from plm_edge.model import corpus


def main() -> None:
    """Write the text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("share", choices=corpus.SHARES)
    parser.add_argument("output", type=Path)
    parser.add_argument("--letters", type=int, default=None)
    flags = parser.parse_args()
    modules = corpus.split(corpus.standard_library())[flags.share]
    each = flags.letters // len(modules) if flags.letters else None
    texts = [module.text[:each] for module in modules]
    flags.output.write_text("\n\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
