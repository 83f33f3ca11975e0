"""Entry point of `plm-edge` and of `python -m plm_edge`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from plm_edge.cli import app

    app(prog_name="plm-edge")


if __name__ == "__main__":
    main()
