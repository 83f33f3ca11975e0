"""Moving the pin: the patches are merged onto another source and written again by git.

A scratch repository holds just the files the patches touch, in the old and in the new version, so
that `git am -3` can merge. A conflict leaves it in place, to be resolved with git and exported.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from plm_edge import schema, shell
from plm_edge.engine import source
from plm_edge.engine.patches import PATCH_LIMIT_BYTES, PatchSet
from plm_edge.engine.source import Notify, silent
from plm_edge.engine.upstream import PIN_NAME, Pin
from plm_edge.errors import InputError, ToolError
from plm_edge.paths import read_bytes, write_text_atomic


def refresh(
    patch_set: PatchSet, pin_file: Path, scratch: Path, target: Path, notify: Notify = silent
) -> list[str]:
    """Merge the patches onto the pin in `pin_file`, in the new folder `scratch`, then `export`."""
    new_pin = schema.load(pin_file, Pin)
    if scratch.exists():
        raise InputError(f"{scratch}: exists already", hint=shell.quote(["rm", "-r", scratch]))
    repository = scratch / "tree"
    repository.mkdir(parents=True)
    try:
        shutil.copyfile(pin_file, scratch / PIN_NAME)
        _git(repository, "init", "--quiet")
        _commit_tree(repository, patch_set, patch_set.pin, scratch / "old", notify)
        _commit_tree(repository, patch_set, new_pin, scratch / "new", notify)
    except BaseException:
        clean(scratch)
        raise
    if patch_set.patches:
        _merge(repository, patch_set, target)
    return export(patch_set, repository, target)


def _commit_tree(
    repository: Path, patch_set: PatchSet, pin: Pin, unpacked: Path, notify: Notify
) -> None:
    source.unpack(source.fetch(pin, notify), pin, unpacked)
    for old in [path for path in repository.iterdir() if path.name != ".git"]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for name in sorted({name for patch in patch_set.patches for name in patch.files}):
        if (unpacked / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(unpacked / name, repository / name)
    shutil.rmtree(unpacked)
    _git(repository, "add", "--all", "--force")
    _git(repository, "commit", "--quiet", "--allow-empty", "-m", pin.requirement)
    _git(repository, "tag", "--force", "base")  # `export` counts from here


def _merge(repository: Path, patch_set: PatchSet, target: Path) -> None:
    files = [str(patch.path.resolve()) for patch in patch_set.patches]
    try:
        _git(repository, "am", "--quiet", "--3way", "--keep-non-patch", *files)
    except ToolError as error:
        raise ToolError(
            f"the patches do not merge: {error.message}\n"
            f"resolve it in {repository} (git status; git am --continue)",
            hint="plm-edge engine patches refresh --export "
            + shell.quote([repository, "-o", target]),
        ) from error


def export(patch_set: PatchSet, repository: Path, target: Path) -> list[str]:
    """Write the commits since `base` as patches with the names they had; returns those changed."""
    if not (repository / ".git").is_dir():
        raise InputError(f"{repository}: not a repository that a refresh left")
    listed = _git(repository, "rev-list", "--reverse", "base..HEAD").stdout.split()
    if len(listed) != len(patch_set.patches):
        raise InputError(
            f"{repository}: {len(listed)} commits, expected {len(patch_set.patches)}",
            hint=f"{shell.quote(['git', '-C', repository])} log base..HEAD",
        )
    changed = []
    if target.resolve() != patch_set.folder.resolve():
        shutil.copytree(patch_set.folder, target, dirs_exist_ok=True)
    for commit, patch in zip(listed, patch_set.patches, strict=True):
        text = _format(repository, commit)
        if text.encode() != read_bytes(patch.path, limit_bytes=PATCH_LIMIT_BYTES):
            changed.append(patch.path.name)
        write_text_atomic(target / patch.path.name, text)
    write_text_atomic(target / PIN_NAME, (repository.parent / PIN_NAME).read_text(encoding="utf-8"))
    return changed


def clean(scratch: Path) -> None:
    """Delete the scratch folder of a refresh that went through."""
    shutil.rmtree(scratch)


def _format(repository: Path, commit: str) -> str:
    options = ["-1", "--stdout", "-N", "--zero-commit", "--no-signature", "--full-index"]
    return _git(repository, "format-patch", *options, commit).stdout


def _git(repository: Path, *arguments: str) -> shell.Completed:
    """git with nobody's configuration, so that every machine writes the same patches."""
    shell.which("git")
    clean = ["env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE"]
    identity = ["-c", "user.name=plm-edge", "-c", "user.email=plm-edge@localhost"]
    environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    return shell.capture([*clean, "git", *identity, *arguments], cwd=repository, env=environment)
