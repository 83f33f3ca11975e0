"""Downloads a checkpoint or GGUF files from a model hub: resumed after a break, then verified.

huggingface_hub does the transfer. What it leaves to the caller is done here: every file's hash is
compared with what the hub says of it (sha256 for large files, git's blob hash for small ones).
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.console import Progress, no_progress
from plm_edge.errors import DeviceError, InputError, UsageError
from plm_edge.paths import require_space, write_error

# What `convert` reads of a checkpoint, and the page that says what it is.
CHECKPOINT_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "chat_template*",
    "README.md",
    "LICENSE*",
)
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin")
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub; `sha256` for those in large-file storage, `blob` for the others."""

    name: str
    size_bytes: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class PullPlan:
    """What will be fetched, from which commit, to where."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]
    folder: Path

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def plan(
    repository: str,
    folder: Path,
    *,
    revision: str = "main",
    include: Sequence[str] = (),
    endpoint: str | None = None,
) -> PullPlan:
    """Ask the hub what the repository holds and choose files.

    Without `include`: what `convert` reads. Raises `InputError` for a repository, revision or
    pattern that matches nothing, `DeviceError` for the network.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repository, revision):
        info = HfApi(endpoint=endpoint).model_info(
            repository, revision=revision, files_metadata=True
        )
    files = tuple(_remote_file(sibling) for sibling in info.siblings or [])
    chosen = tuple(file for file in files if _wanted(file.name, include or CHECKPOINT_FILES))
    if not any(_wanted(file.name, include or WEIGHTS) for file in chosen):
        known = ", ".join(sorted(file.name for file in files)[:12]) or "nothing"
        wanted = " ".join(include) if include else "checkpoint"
        raise InputError(
            f"{repository}: holds no file that matches {wanted}; it holds {known}",
            hint=f"plm-edge pull {repository} --include '*.gguf'",
        )
    return PullPlan(repository, info.sha or revision, chosen, folder)


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _remote_file(sibling: Any) -> RemoteFile:
    name = str(sibling.rfilename)
    parts = Path(name).parts
    if name.startswith("/") or ".." in parts:
        raise InputError(f"the hub names a file {name!r} outside of the repository")
    large = sibling.lfs
    return RemoteFile(name, sibling.size or 0, large.sha256 if large else None, sibling.blob_id)


def fetch(
    chosen: PullPlan, *, endpoint: str | None = None, progress: Progress = no_progress
) -> list[Path]:
    """Download what the plan names; whole and verified files are kept, broken ones resumed.

    `progress` counts bytes. A file whose hash is wrong is deleted, and named.
    """
    from huggingface_hub import hf_hub_download

    missing = [file for file in chosen.files if not _is_whole(chosen.folder / file.name, file)]
    require_space(chosen.folder / "x", sum(file.size_bytes for file in missing))
    total = chosen.size_bytes
    done = total - sum(file.size_bytes for file in missing)
    progress(done, total)
    for file in missing:
        target = chosen.folder / file.name
        with _hub_errors(chosen.repository, chosen.commit):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # huggingface_hub would believe a damaged one
            hf_hub_download(
                chosen.repository,
                file.name,
                revision=chosen.commit,
                local_dir=chosen.folder,
                endpoint=endpoint,
                tqdm_class=_meter(done, total, progress),
            )
        if not _is_whole(target, file):
            target.unlink(missing_ok=True)
            raise DeviceError(
                f"{target}: its content is not what {chosen.repository} says it is; deleted",
                hint="run the same command again",
            )
        done += file.size_bytes
        progress(done, total)
    return [chosen.folder / file.name for file in chosen.files]


def _meter(before: int, total: int, progress: Progress) -> Any:
    """A silent bar for huggingface_hub that passes on how many bytes are here."""
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    class Meter(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})
            self._here = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._here += int(n or 0)
            progress(before + self._here, total)

    return Meter


def _is_whole(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    if file.sha256:
        return _digest(path, hashlib.sha256()) == file.sha256
    if file.blob:
        header = f"blob {file.size_bytes}\0".encode()
        return _digest(path, hashlib.sha1(header, usedforsecurity=False)) == file.blob
    return True


def _digest(path: Path, state: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            state.update(block)
    return str(state.hexdigest())


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn huggingface_hub's and its transport's exceptions into ours."""
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise InputError(
            f"{repository}: the owners ask for an agreement first", hint="hf auth login"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise InputError(f"{repository}: no such model, or it is private") from error
    except hub.RevisionNotFoundError as error:
        raise InputError(f"{repository}: no revision {revision!r}") from error
    except hub.HFValidationError as error:
        raise UsageError(
            f"{repository!r} is not the name of a model", hint="plm-edge pull OWNER/NAME"
        ) from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:  # a file here, not the network
            raise write_error(Path(error.filename), error) from error
        raise DeviceError(f"{repository}: {_first_line(error)}", hint=_AGAIN) from error
    except Exception as error:
        # The transport (httpx) is huggingface_hub's own choice and has no common base with it.
        if not _is_transport(error):
            raise
        raise DeviceError(f"{repository}: {_first_line(error)}", hint=_AGAIN) from error


_AGAIN = "run the same command again; it goes on where it stopped"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _is_transport(error: Exception) -> bool:
    names = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return bool(names & {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "huggingface_hub"})
