"""What sftp is told to send a file: it goes on in the middle of one, which scp cannot.

Both speak the same protocol (scp since OpenSSH 9.0), but scp before that wanted names quoted for
the far shell, and its version cannot be asked.
"""

from __future__ import annotations

from pathlib import Path

# Its own failures end it with 1.
WIRE_STATUS = 255


def put(local: Path, remote: str, offset: int) -> bytes | None:
    """The order that sends what follows `offset`; None for names no order can hold."""
    names = (str(local.absolute()), remote)
    if any(end in name for name in names for end in "\r\n"):
        return None
    # `reput` wants a file to go on with.
    words = ["reput" if offset else "put", *map(quoted, names)]
    return " ".join(words).encode("utf-8", "surrogateescape") + b"\n"


def quoted(name: str) -> str:
    """`name` as one word; a backslash also takes the meaning from what sftp would expand."""
    return "".join(c if c.isalnum() or c in "/._-" else f"\\{c}" for c in name)
