"""Every shipped profile loads; broken ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.device import profile
from plm_edge.errors import ConfigError


def test_every_shipped_profile_loads() -> None:
    shipped = resources.list_all("devices")
    assert "host" in [resource.name for resource in shipped]
    for resource in shipped:
        assert profile.load(resource).description


def test_an_unknown_toolchain_is_named(own_folders: Path) -> None:
    folder = own_folders / "config" / "devices"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(
        'schema = 1\nextends = "host"\n[build]\ntoolchain = "magic"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"mine\.toml: build\.toolchain = 'magic'"):
        profile.find("mine")
