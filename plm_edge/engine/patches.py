"""The patch set: a series of small hooks, and whole source files that are copied in first.

Patches are `git format-patch -N` files with DEP-3 trailers (https://dep-team.pages.debian.net/deps/dep3/);
`src/` mirrors the llama.cpp tree.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from plm_edge import paths, resources, shell
from plm_edge.engine import upstream
from plm_edge.engine.upstream import Pin
from plm_edge.errors import InputError, ToolError

SERIES_NAME = "series"
PATCH_LIMIT_BYTES = 1 << 20
ADDED_LINES_LIMIT = 60  # a longer patch holds code that belongs in src/, where it can be compiled

_FILE_NAME = re.compile(r"\d{4}-[a-z0-9]+(-[a-z0-9]+)+\.patch")
_DIFF_HEADER = re.compile(r"^diff --git a/(?P<old>\S+) b/(?P<new>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Patch:
    """One hook: its header as git and DEP-3 write it, and what it touches."""

    name: str
    path: Path
    sha256: str
    author: str
    date: str
    subject: str
    body: str
    forwarded: str
    last_update: str
    files: tuple[str, ...]
    added_lines: int

    def as_dict(self) -> dict[str, Any]:
        """The header as plain values, for `--json`."""
        return {
            "name": self.name,
            "subject": self.subject,
            "author": self.author,
            "date": self.date,
            "forwarded": self.forwarded,
            "last_update": self.last_update,
            "files": list(self.files),
            "added_lines": self.added_lines,
            "sha256": self.sha256,
            "path": str(self.path),
        }


@dataclass(frozen=True)
class PatchSet:
    """Everything a patches folder says: the pin, the hooks in order, our own source files."""

    folder: Path
    pin: Pin
    patches: tuple[Patch, ...]
    sources: tuple[tuple[str, str], ...]
    """(path in the tree, sha256) of each file of `src/`, sorted."""

    def identity(self) -> dict[str, Any]:
        """What an engine built from this set depends on."""
        return {
            "pin": self.pin.as_dict(),
            "patches": [[patch.name, patch.sha256] for patch in self.patches],
            "sources": [list(pair) for pair in self.sources],
        }


def load(folder: Path | None = None) -> PatchSet:
    """Read a patches folder (default: the one in force); `InputError` where it breaks its rules."""
    folder = folder or resources.folder("patches")
    names = _series(folder)
    return PatchSet(
        folder,
        upstream.load(folder),
        tuple(parse(folder / name) for name in names),
        _sources(folder / "src"),
    )


def _series(folder: Path) -> list[str]:
    path = folder / SERIES_NAME
    present = sorted(file.name for file in folder.glob("*.patch"))
    if not path.exists() and not present:
        return []
    text = paths.read_bytes(path, limit_bytes=PATCH_LIMIT_BYTES).decode("utf-8", "replace")
    names = [line.strip() for line in text.splitlines()]
    names = [name for name in names if name and not name.startswith("#")]
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            raise InputError(f"{path}: {name!r}, expected a name like 0001-verb-object.patch")
    # Two orders that disagree would be one too many.
    if names != present:
        odd = sorted(set(names) ^ set(present))
        what = f"{odd[0]!r} is on one side only" if odd else "its order is not that of the names"
        raise InputError(f"{path}: series and files differ: {what}")
    return names


def parse(path: Path) -> Patch:
    """Read one patch and its header; a missing part is an `InputError` that names it."""
    raw = paths.read_bytes(path, limit_bytes=PATCH_LIMIT_BYTES)
    text = raw.decode("utf-8", "replace")
    message, _, diff = text.partition("\n---\n")
    head, _, body = message.partition("\n\n")
    if not re.match(r"From [0-9a-f]{40} ", head):
        raise InputError(f"{path}: no 'From <commit>' line first, expected git format-patch output")
    patch = Patch(
        name=path.stem,
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        author=_header(path, head, "From"),
        date=_header(path, head, "Date"),
        subject=re.sub(r"^\[PATCH[^]]*\] ", "", _header(path, head, "Subject")),
        body=_reason(body),
        forwarded=_header(path, body, "Forwarded"),
        last_update=_header(path, body, "Last-Update"),
        files=_files(diff),
        added_lines=len(re.findall(r"^\+(?!\+\+ )", diff, re.MULTILINE)),
    )
    _check(patch)
    return patch


def _header(path: Path, text: str, name: str) -> str:
    # A long subject is folded: its next lines start with a blank.
    found = re.search(rf"^{name}: (.*(?:\n[ \t].*)*)", text, re.MULTILINE)
    if found is None:
        raise InputError(f"{path}: no {name!r} line", hint="see patches/README.md")
    return re.sub(r"\s*\n\s*", " ", found[1]).strip()


def _reason(body: str) -> str:
    lines = [line for line in body.splitlines() if not re.match(r"[A-Z][A-Za-z-]+: ", line)]
    return "\n".join(lines).strip()


def _files(diff: str) -> tuple[str, ...]:
    found = {name for match in _DIFF_HEADER.finditer(diff) for name in match.groups()}
    return tuple(sorted(found))


def _check(patch: Patch) -> None:
    problem = None
    if not patch.body:
        problem = "the message has no body, expected the reason for the patch"
    elif not re.match(r"https?://|no$|not-needed .", patch.forwarded):
        problem = f"Forwarded: {patch.forwarded!r}, expected a URL, 'no' or 'not-needed REASON'"
    elif not _is_date(patch.last_update):
        problem = f"Last-Update: {patch.last_update!r}, expected YYYY-MM-DD"
    elif not patch.files:
        problem = "no 'diff --git' in it"
    elif patch.added_lines > ADDED_LINES_LIMIT:
        problem = f"{patch.added_lines} added lines, at most {ADDED_LINES_LIMIT}; use src/"
    if problem:
        raise InputError(f"{patch.path}: {problem}", hint="see patches/README.md")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _sources(folder: Path) -> tuple[tuple[str, str], ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        (str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    )


def copy_sources(patch_set: PatchSet, tree: Path) -> None:
    """Copy `src/` into the tree; a file that upstream has too is refused."""
    for name, digest in patch_set.sources:
        target = tree / name
        if target.exists():
            raise InputError(
                f"{patch_set.folder / 'src' / name}: the pinned source has this file already",
                hint="change upstream's files with a patch, add new ones in src/",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(patch_set.folder / "src" / name, target)
        _require_unchanged(patch_set.folder / "src" / name, target, digest)


def apply_all(patch_set: PatchSet, tree: Path) -> None:
    """Copy the sources in, then apply every patch of the series."""
    copy_sources(patch_set, tree)
    for patch in patch_set.patches:
        apply(patch, tree)


def apply(patch: Patch, tree: Path) -> str:
    """Apply one patch without fuzz and return git's account; `ToolError` unless all of it took.

    git exits 0 after skipping a patch when it thinks the tree lies inside another repository,
    so its words and the files themselves are checked as well.
    """
    _require_unchanged(patch.path, patch.path, patch.sha256)
    before = {name: _digest(tree / name) for name in patch.files}
    done = git_apply(patch.path, tree)
    unchanged = [name for name in patch.files if _digest(tree / name) == before[name]]
    if "Skipped patch" in done.stderr or unchanged:
        detail = unchanged[0] if unchanged else done.stderr.strip()
        raise ToolError(f"{patch.path}: git skipped the patch: {detail}")
    return done.stderr


def git_apply(patch: Path, tree: Path) -> shell.Completed:
    """`git apply` that sees no repository and no user's configuration."""
    shell.which("git")
    command = ["env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE"]
    command += ["git", "apply", "--verbose", "--whitespace=nowarn", str(patch.resolve())]
    environment = {
        "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C",
    }
    done = shell.capture(command, cwd=tree, env=environment, check=False)
    if done.exit_status != 0:
        raise ToolError(
            f"{patch}: does not apply: {_reject(done.stderr)}",
            hint="plm-edge engine patches refresh",
        )
    return done


def _require_unchanged(path: Path, copy: Path, digest: str) -> None:
    # The engine's key was made from what was read first; an editor may have saved since.
    if _digest(copy) != digest:
        raise InputError(f"{path}: changed during the build", hint="plm-edge engine build")


def _reject(stderr: str) -> str:
    errors = [line[7:] for line in stderr.splitlines() if line.startswith("error: ")]
    # "while searching for:" is followed by the hunk itself, which belongs in no message
    return "; ".join(line for line in errors if not line.endswith(":")) or stderr.strip()


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
