"""Brings a file to the far side: only if it differs, from where it stopped, whole or not at all.

Beside `NAME` the far folder may hold `.NAME.part` (what has arrived so far), `.NAME.part-of` (the
sha256 of the whole it belongs to) and `.NAME.sum` (sha256, size and time of a `NAME` that was
verified, so that a model of a gigabyte is not hashed there at every start).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname, join
from typing import TYPE_CHECKING

from plm_edge.console import Progress
from plm_edge.errors import DeviceError, SpaceError
from plm_edge.paths import read_error
from plm_edge.shell import quote

if TYPE_CHECKING:
    from plm_edge.device.transport import Transport

_HASH_CHUNK_BYTES = 1 << 20
_DAMAGED = 99

# Four names for each file: itself, its note, its part, and what that is a part of.
_LOOK = """
while [ $# -gt 0 ]; do
stat -c "%s %Y" "$1" 2>/dev/null || echo -
cat "$2" 2>/dev/null || echo -
stat -c %s "$3" 2>/dev/null || echo -
cat "$4" 2>/dev/null || echo -
shift 4
done
"""
# The part is ours to go on with: rsync and sftp would give a new one the local file's permissions.
_BEGIN = 'mkdir -p "$1" && rm -f "$2" && : > "$2" && echo "$4" > "$3"'
# `sync` before the rename: after a power cut the file is the old one or the new one, never half.
_FINISH = f"""
got=$(sha256sum < "$1") || exit 1
[ "${{got%% *}}" = "$5" ] || {{ rm -f "$1" "$2"; exit {_DAMAGED}; }}
chmod "$6" "$1" && {{ sync "$1" 2>/dev/null || sync; }} && mv -f "$1" "$3" || exit 1
rm -f "$2"
echo "$5 $(stat -c "%s %Y" "$3")" > "$4"
"""


@dataclass(frozen=True)
class Pushed:
    """What a push did: the file's size, where it went on, and how much it sent."""

    size_bytes: int
    resumed_at: int
    sent_bytes: int


@dataclass(frozen=True)
class Far:
    """What the far side has: the file's size and time, its note, and an earlier attempt."""

    stat: str
    note: str
    part_bytes: int
    part_of: str


@dataclass(frozen=True)
class Pusher:
    """One file on its way to `remote`, an absolute path."""

    transport: Transport
    local: Path
    remote: str
    is_executable: bool

    def run(self, progress: Progress) -> Pushed:
        """Push unless the same content is there already."""
        far = look(self.transport, [self.remote])[0]
        size = local_size(self.local)
        return self.go_on(far, progress) if self.is_needed(far) else Pushed(size, size, 0)

    def go_on(self, far: Far, progress: Progress) -> Pushed:
        """Push from where an earlier attempt stopped; `far` is what `look` found."""
        digest, size = local_sha256(self.local), local_size(self.local)
        offset = far.part_bytes if far.part_of == digest and far.part_bytes <= size else 0
        self._require_space(size - far.part_bytes)
        if offset == 0:
            folder = dirname(self.remote)
            self._script(_BEGIN, folder, self._beside(".part"), self._beside(".part-of"), digest)
        if offset < size or size == 0:
            self.transport.send(self.local, self._beside(".part"), offset, progress)
        self._finish(digest)
        return Pushed(size, offset, size - offset)

    def is_needed(self, far: Far) -> bool:
        """Whether the content there is another; `far` is what `look` found."""
        if far.stat.split()[0] != str(local_size(self.local)):
            return True  # which spares hashing a gigabyte on both sides
        if far.note.split()[1:] == far.stat.split():
            return far.note.split()[0] != local_sha256(self.local)
        return self.transport.sha256(self.remote) != local_sha256(self.local)

    def _require_space(self, needed_bytes: int) -> None:
        free_bytes = self.transport.free_bytes(dirname(self.remote))
        if free_bytes < needed_bytes:
            device = self.transport.name
            raise SpaceError(
                f"{device}: {basename(self.remote)} needs {needed_bytes / 1e6:.0f} MB, but "
                f"{dirname(self.remote)} has {free_bytes / 1e6:.0f} MB free",
                hint=quote(["plm-edge", "device", "probe", device]),
            )

    def _finish(self, digest: str) -> None:
        part, part_of = self._beside(".part"), self._beside(".part-of")
        mode = "755" if self.is_executable else "644"
        names = (part, part_of, self.remote, self._beside(".sum"))
        done = self.transport.run(["sh", "-c", _FINISH, "sh", *names, digest, mode], check=False)
        if done.code == _DAMAGED:
            raise DeviceError(
                f"{self.transport.name}: {self.remote}: arrived damaged and was thrown away",
                hint="run the same command again",
            )
        if done.code != 0:
            raise self.transport.error_of(done)

    def _script(self, script: str, *words: str) -> str:
        return self.transport.run(["sh", "-c", script, "sh", *words]).stdout

    def _beside(self, ending: str) -> str:
        return beside(self.remote, ending)


def look(transport: Transport, remotes: Sequence[str]) -> list[Far]:
    """What the far side has of each of `remotes`, in one round trip."""
    endings = (".sum", ".part", ".part-of")
    words = [word for r in remotes for word in (r, *(beside(r, end) for end in endings))]
    lines = transport.run(["sh", "-c", _LOOK, "sh", *words]).stdout.splitlines()
    found = []
    for index in range(len(remotes)):
        stat, note, part_bytes, part_of = [*lines[4 * index :], "-", "-", "-", "-"][:4]
        found.append(Far(stat, note, int(part_bytes) if part_bytes.isdigit() else 0, part_of))
    return found


def beside(remote: str, ending: str) -> str:
    """The hidden neighbour of `remote` that ends in `ending`."""
    return join(dirname(remote), f".{basename(remote)}{ending}")


def local_size(path: Path) -> int:
    """The size of a file here in bytes; `InputError` if it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise read_error(path, error) from error


def local_sha256(path: Path) -> str:
    """The sha256 of a file here, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise read_error(path, error) from error
    return digest.hexdigest()
