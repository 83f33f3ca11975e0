"""Every error a user can meet, in one tree; anything else that surfaces is a bug.

    PlmEdgeError                 exit 1: the user can fix it
    ├── InputError               a file, value or checkpoint is not what it must be
    │   └── ConfigError          a TOML or JSON file: names file, table and key
    ├── UsageError               exit 2: flags that do not go together
    ├── MissingToolError         a program is not installed; the hint installs it
    ├── ToolError                a program ran and failed; names its log
    ├── SpaceError               not enough disk or memory, said before work starts
    └── DeviceError              exit 3: device or network

Exit 70 is kept for bugs (sysexits.h EX_SOFTWARE).
"""

from __future__ import annotations

EXIT_BUG = 70


class PlmEdgeError(Exception):
    """A failure the user can act on: what failed, and what to paste next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(PlmEdgeError):
    """A file or value is not what it must be; the message names both."""


class ConfigError(InputError):
    """A TOML or JSON file breaks its schema; the message names file, table and key."""


class UsageError(PlmEdgeError):
    """Flags that do not go together."""

    exit_code = 2


class MissingToolError(PlmEdgeError):
    """A program that is needed is not installed."""


class ToolError(PlmEdgeError):
    """A program ran and failed; the message carries its command, last lines and log path."""


class SpaceError(PlmEdgeError):
    """Too little disk or memory, noticed before anything was written."""


class DeviceError(PlmEdgeError):
    """A device or the way to it failed."""

    exit_code = 3
