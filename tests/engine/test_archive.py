"""Export and import: what goes out comes in unchanged, and nothing hostile does."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.engine import archive, build, cache
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError, SpaceError
from tests.engine.conftest import Mini

Edit = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


@pytest.fixture
def built(mini: Mini) -> Engine:
    return build.ensure("edge")


def rewritten(source: Path, target: Path, edit: Edit) -> Path:
    """The archive again, after `edit` changed its members."""
    members = []
    with tarfile.open(source) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() else None
            members.append((member, file.read() if file else b""))
    edit(members)
    with tarfile.open(target, "w:gz") as written:
        for member, content in members:
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return target


def test_what_goes_out_comes_in(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "an engine.tar.gz")
    assert done.size_bytes == done.path.stat().st_size > 0
    again = archive.export(built, tmp_path / "again.tar.gz")
    assert again.sha256 == done.sha256
    shutil.rmtree(built.folder)
    taken = archive.import_(done.path, done.sha256)
    assert taken.manifest == built.manifest
    assert (taken.lib_dir / "libllama.so").is_symlink()
    found = build.current("edge")
    assert found is not None and not found.was_built_now
    found.check()
    assert list(cache.engines_dir().glob(".*")) == []


def test_an_engine_that_is_there_already_stays(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    before = built.tool("llama-bench").stat().st_ino
    archive.import_(done.path)
    assert built.tool("llama-bench").stat().st_ino == before


def test_a_damaged_engine_is_not_exported_and_is_replaced(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    tool = built.tool("llama-bench")
    tool.write_bytes(b"x" * tool.stat().st_size)
    with pytest.raises(InputError, match="not the file that was built"):
        archive.export(built, tmp_path / "f.tar.gz")
    assert not (tmp_path / "f.tar.gz").exists()
    tool.unlink()
    archive.import_(done.path).check()


def test_another_archive_than_the_exported_one_is_refused(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    with pytest.raises(InputError, match=f"sha256 {done.sha256}, expected 00"):
        archive.import_(done.path, "00")


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def named(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


@pytest.mark.parametrize(
    "member",
    [
        named("KEY/../../evil"),
        named("/etc/evil"),
        named("KEY/bin/deep/evil"),
        named("KEY/evil"),
        named("other-host-0123456789abcdef/bin/evil"),
        link("KEY/bin/evil", "/etc/passwd"),
        link("KEY/lib/evil", "../../../evil"),
        link("KEY/lib/evil", ".."),
        link("KEY/lib/evil", "KEY/bin/llama-bench", tarfile.LNKTYPE),
        link("KEY/lib/evil", "", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.linkname}",
)
def test_a_hostile_member_is_refused(
    built: Engine, tmp_path: Path, member: tarfile.TarInfo
) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    key = built.manifest.key
    evil = replace_key(member, key)
    bad = rewritten(done.path, tmp_path / "bad.tar.gz", lambda all_: all_.append((evil, b"")))
    shutil.rmtree(built.folder)
    with pytest.raises(InputError, match=r"bad\.tar\.gz: .* does not belong in it, refused"):
        archive.import_(bad)
    assert cache.list_all() == ([], [])
    assert list(cache.engines_dir().iterdir()) == []


def replace_key(member: tarfile.TarInfo, key: str) -> tarfile.TarInfo:
    copy = tarfile.TarInfo(member.name.replace("KEY", key))
    copy.type, copy.linkname = member.type, member.linkname.replace("KEY", key)
    return copy


def test_a_file_under_a_links_name_does_not_write_through_it(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    twice = tarfile.TarInfo(f"{built.manifest.key}/lib/libllama.so")
    bad = rewritten(done.path, tmp_path / "bad.tar.gz", lambda all_: all_.append((twice, b"x")))
    shutil.rmtree(built.folder)
    with pytest.raises(InputError):
        archive.import_(bad)
    assert cache.list_all() == ([], [])


def test_changed_missing_and_added_files_are_noticed(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    key = built.manifest.key
    shutil.rmtree(built.folder)
    name = f"{key}/bin/llama-bench"

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[:] = [(m, b"x" * len(c) if m.name == name else c) for m, c in members]

    def drop(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[:] = [(m, c) for m, c in members if m.name != name]

    def add(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members.append((tarfile.TarInfo(f"{key}/bin/more"), b"x"))

    for edit, message in (
        (change, "not the file that was built"),
        (drop, "missing or cut short"),
        (add, "not those of its manifest"),
    ):
        bad = rewritten(done.path, tmp_path / f"{edit.__name__}.tar.gz", edit)
        with pytest.raises(InputError, match=message):
            archive.import_(bad)
    assert cache.list_all() == ([], [])


def test_a_foreign_programs_claim_is_checked(built: Engine, tmp_path: Path) -> None:
    claim = replace(
        built.manifest, toolchain="zig-aarch64", cpu=("aarch64", "cortex_a72", "fp", "asimd")
    )
    cache.write_manifest(built.folder, claim)
    done = archive.export(cache.load(built.folder), tmp_path / "e.tar.gz")
    shutil.rmtree(built.folder)
    with pytest.raises(InputError, match=r"made for ELF machine|not static"):
        archive.import_(done.path)


def test_a_manifest_with_another_key_is_refused(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")

    def rename(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest = json.loads(members[0][1])
        manifest["key"] = "../../evil"
        members[0] = (members[0][0], json.dumps(manifest).encode())

    bad = rewritten(done.path, tmp_path / "bad.tar.gz", rename)
    with pytest.raises(InputError, match="is no engine's key"):
        archive.import_(bad)


def test_what_is_no_archive_is_said(mini: Mini, tmp_path: Path) -> None:
    path = tmp_path / "e.tar.gz"
    with pytest.raises(InputError, match=r"e\.tar\.gz: cannot read"):
        archive.import_(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a whole engine archive"):
        archive.import_(path)
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(InputError, match="no engine in it"):
        archive.import_(path)


def test_a_cut_archive_is_said(built: Engine, tmp_path: Path) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    content = done.path.read_bytes()
    shutil.rmtree(built.folder)
    done.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a whole engine archive"):
        archive.import_(done.path)
    assert cache.list_all() == ([], [])


def test_a_bomb_is_refused(built: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    monkeypatch.setattr(archive, "UNPACKED_LIMIT_BYTES", 1000)
    with pytest.raises(InputError, match="refused"):
        archive.import_(done.path)


def test_a_full_disk_is_said_before(
    built: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = archive.export(built, tmp_path / "e.tar.gz")
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(SpaceError):
        archive.import_(done.path)
