"""Fetching and unpacking: hostile archives, wrong hashes, no network, pip itself."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from plm_edge.engine import source
from plm_edge.errors import InputError, MissingToolError, SpaceError, ToolError
from tests.engine.conftest import FILES, STEM, TREE, Mini, tar_gz


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    return info


def test_only_the_tree_is_unpacked_and_no_git_pointer(mini: Mini, tmp_path: Path) -> None:
    mini.publish(FILES, {f"{STEM}/setup.py": tarfile.TarInfo(f"{STEM}/setup.py")})
    pin = mini.load().pin
    source.unpack(source.fetch(pin), pin, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == set(FILES) - {".git"}
    assert (tmp_path / "out/src/name.c").read_text(encoding="utf-8") == FILES["src/name.c"]


def test_programs_stay_executable_and_nothing_gets_setuid(mini: Mini, tmp_path: Path) -> None:
    script, plain = tarfile.TarInfo(f"{TREE}/run.sh"), tarfile.TarInfo(f"{TREE}/plain")
    script.mode, plain.mode = 0o4777, 0o666
    mini.publish(FILES, {"script": script, "plain": plain})
    pin = mini.load().pin
    source.unpack(mini.sdist, pin, tmp_path / "out")
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/plain").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo(f"{TREE}/../../../escaped"),
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("/tmp/plm-edge-escaped"),
        link(f"{TREE}/link", "/etc/passwd"),
        link(f"{TREE}/link", "../../../.."),
        link(f"{TREE}/hard", f"{TREE}/src/name.c", tarfile.LNKTYPE),
        link(f"{TREE}/pipe", "", tarfile.FIFOTYPE),
        device(f"{TREE}/null"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_a_hostile_member_is_refused_and_leaves_nothing(
    mini: Mini, tmp_path: Path, member: tarfile.TarInfo
) -> None:
    mini.publish(FILES, {"hostile": member})
    with pytest.raises(InputError, match="refused"):
        source.unpack(mini.sdist, mini.load().pin, tmp_path / "a" / "out")
    assert list((tmp_path / "a").iterdir()) == []
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/plm-edge-escaped").exists()


def test_a_bomb_is_refused(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "UNPACKED_LIMIT_BYTES", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        source.unpack(mini.sdist, mini.load().pin, tmp_path / "out")


def test_a_cut_archive_is_refused_and_leaves_nothing(mini: Mini, tmp_path: Path) -> None:
    content = mini.sdist.read_bytes()
    mini.sdist.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"not a whole \.tar\.gz"):
        source.unpack(mini.sdist, mini.load().pin, tmp_path / "a" / "out")
    assert list((tmp_path / "a").iterdir()) == []


def test_an_archive_without_the_tree_is_refused(mini: Mini, tmp_path: Path) -> None:
    mini.sdist.write_bytes(tar_gz({f"{STEM}/setup.py": "x"}))
    with pytest.raises(InputError, match=r"no vendor/llama\.cpp in it"):
        source.unpack(mini.sdist, mini.load().pin, tmp_path / "out")


def test_a_read_only_folder_is_named(mini: Mini) -> None:
    with pytest.raises((InputError, SpaceError), match="/sys/plm-edge"):
        source.unpack(mini.sdist, mini.load().pin, Path("/sys/plm-edge/out"))


def test_a_cached_sdist_needs_no_pip(mini: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.sys, "executable", "/nonexistent/python")
    assert source.fetch(mini.load().pin) == mini.sdist


def pip_index(folder: Path, marker: Path) -> bytes:
    """An sdist pip can read offline: its build backend lies in it, and leaves a mark when run."""
    backend = (
        "import pathlib\n"
        f"pathlib.Path({str(marker)!r}).touch()\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        f"    info = pathlib.Path(folder, '{STEM}.dist-info')\n"
        "    info.mkdir()\n"
        "    text = 'Metadata-Version: 2.1\\nName: llama-mini\\nVersion: 1.0\\n'\n"
        "    (info / 'METADATA').write_text(text)\n"
        "    return info.name\n"
        "def build_wheel(*arguments): raise SystemExit('not asked for')\n"
    )
    build_system = "requires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    content = tar_gz(
        {
            f"{STEM}/pyproject.toml": f"[build-system]\n{build_system}",
            f"{STEM}/backend.py": backend,
            f"{STEM}/PKG-INFO": "Metadata-Version: 2.1\nName: llama-mini\nVersion: 1.0\n",
            **{f"{TREE}/{name}": text for name, text in FILES.items()},
        }
    )
    folder.mkdir()
    (folder / f"{STEM}.tar.gz").write_bytes(content)
    return content


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Path]:
    """pip knows nothing but a folder of ours; returns the sdist there and its backend's mark."""
    marker = tmp_path / "backend-ran"
    content = pip_index(tmp_path / "index", marker)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return content, marker


def test_pip_fetches_from_the_users_own_index(mini: Mini, own_index: tuple[bytes, Path]) -> None:
    content, marker = own_index
    mini.sdist.unlink()
    mini.pin(hashlib.sha256(content).hexdigest())
    said: list[str] = []
    assert source.fetch(mini.load().pin, said.append).read_bytes() == content
    assert said == ["fetching llama-mini==1.0 (source) with pip"]
    assert marker.exists()
    assert [path.name for path in mini.sdist.parent.iterdir()] == [mini.sdist.name]


def test_a_wrong_hash_stops_pip_before_any_code_runs(
    mini: Mini, own_index: tuple[bytes, Path]
) -> None:
    mini.sdist.unlink()
    mini.pin("0" * 64)
    with pytest.raises(ToolError, match="HASHES") as caught:
        source.fetch(mini.load().pin)
    assert not own_index[1].exists()
    assert list(mini.sdist.parent.iterdir()) == []
    assert str(mini.sdist.parent) in (caught.value.hint or "")


def test_a_damaged_cached_file_is_fetched_again(mini: Mini, own_index: tuple[bytes, Path]) -> None:
    mini.pin(hashlib.sha256(own_index[0]).hexdigest())
    mini.sdist.write_bytes(b"damaged")
    assert source.fetch(mini.load().pin).read_bytes() == own_index[0]


def test_an_index_without_the_package_is_said(mini: Mini, own_index: tuple[bytes, Path]) -> None:
    mini.sdist.unlink()
    mini.pin("0" * 64, version="9.9")
    with pytest.raises(ToolError, match=r"cannot fetch llama-mini==9\.9"):
        source.fetch(mini.load().pin)


def test_a_python_without_pip_is_told_how_to_get_it(
    mini: Mini, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.sdist.unlink()
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="pip") as caught:
        source.fetch(mini.load().pin)
    assert (caught.value.hint or "").endswith("-m ensurepip")


def test_the_hash_check_names_both(mini: Mini, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(b"x")
    with pytest.raises(InputError, match=rf"other.tar.gz: sha256 2d711.*{mini.load().pin.sha256}"):
        source.check_hash(other, mini.load().pin)


def test_the_stock_tree_is_unpacked_once(mini: Mini) -> None:
    pin = mini.load().pin
    tree = source.stock_tree(pin)
    (tree / "marker").touch()
    assert (source.stock_tree(pin) / "marker").exists()


def test_a_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    content = io.BytesIO(b"abc" * 1_000_000).getvalue()
    (tmp_path / "file").write_bytes(content)
    assert source.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
