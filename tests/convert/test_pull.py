"""Downloads against a hub on this machine: whole, resumed, verified, refused."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.convert import pull
from plm_edge.errors import DeviceError, InputError, SpaceError

REPOSITORY = "PLM-Team/PLM-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b'{"model_type": "plm"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "notes/extra.txt": b"not asked for",
}
LARGE = ("model.safetensors",)


@dataclass
class Hub:
    """What the pretended hub serves, breaks and remembers."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    served: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None
    ranges: list[str] = field(default_factory=list)
    address: str = ""

    def siblings(self) -> list[dict[str, Any]]:
        """Each file as the hub's API describes it."""
        return [self._sibling(name, content) for name, content in self.files.items()]

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name in LARGE:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
        return entry


class Handler(BaseHTTPRequestHandler):
    """The two calls huggingface_hub makes: the model's page and the file, whole or in part."""

    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.path.startswith("/api/models/"):
            return self._page()
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if match and match[1] == REPOSITORY and match[3] in self.hub.files:
            return self._file(match[3], body)
        return self._refuse("EntryNotFound" if match else "RepoNotFound")

    def _page(self) -> None:
        name, _, revision = self.path.split("?")[0][len("/api/models/") :].partition("/revision/")
        if name != REPOSITORY:
            return self._refuse("RepoNotFound")
        if revision not in ("", "main", COMMIT):
            return self._refuse("RevisionNotFound")
        page = {"id": name, "sha": COMMIT, "siblings": self.hub.siblings()}
        return self._send(200, json.dumps(page).encode())

    def _file(self, name: str, body: bool) -> None:
        content = self.hub.served.get(name, self.hub.files[name])
        start, status = 0, 200
        if wanted := self.headers.get("Range"):
            self.hub.ranges.append(wanted)
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
        part = content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.sha256(self.hub.files[name]).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body and self.hub.break_after is not None and len(part) > self.hub.break_after:
            self.wfile.write(part[: self.hub.break_after])
            self.wfile.flush()
            self.connection.close()
        elif body:
            self.wfile.write(part)

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class QuietServer(ThreadingHTTPServer):
    """A server whose broken connections are meant."""

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on the loopback, for the length of a test."""
    made = Hub()
    handler = type("Bound", (Handler,), {"hub": made})
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def run(hub: Hub, *words: str) -> Result:
    return CliRunner().invoke(app, ["pull", *words, "--endpoint", hub.address])


def fetch(hub: Hub, folder: Path, **options: Any) -> list[Path]:
    chosen = pull.plan(REPOSITORY, folder, endpoint=hub.address, **options)
    return pull.fetch(chosen, endpoint=hub.address)


def test_a_checkpoint_arrives_whole_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "a föld er"
    names = {path.name for path in fetch(hub, folder)}
    assert names == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not (folder / "notes").exists()


def test_a_second_pull_fetches_nothing_and_mends_damage(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.served = {name: b"?" * len(content) for name, content in FILES.items()}
    fetch(hub, tmp_path)
    hub.served = {}
    (tmp_path / "config.json").write_bytes(b'{"model_type": "pln"}')
    fetch(hub, tmp_path)
    assert (tmp_path / "config.json").read_bytes() == FILES["config.json"]


def test_a_broken_download_is_resumed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from huggingface_hub import constants

    # It goes on from the last whole chunk; its own are larger than this test's file.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # huggingface_hub waits to retry
    hub.break_after = 300_000
    fetch(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges
    assert all(int(r.removeprefix("bytes=").rstrip("-")) > 0 for r in hub.ranges)


def test_wrong_content_is_deleted_and_named(hub: Hub, tmp_path: Path) -> None:
    hub.served["model.safetensors"] = b"\0" * len(WEIGHTS)
    with pytest.raises(DeviceError, match=r"model\.safetensors: its content is not what"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_patterns_choose_files(hub: Hub, tmp_path: Path) -> None:
    (only,) = fetch(hub, tmp_path, include=["notes/*"])
    assert only.read_bytes() == FILES["notes/extra.txt"]
    with pytest.raises(InputError, match=r"no file that matches \*\.gguf; it holds config"):
        fetch(hub, tmp_path, include=["*.gguf"])
    del hub.files["model.safetensors"]
    with pytest.raises(InputError, match="matches checkpoint"):
        fetch(hub, tmp_path)


def test_a_file_name_that_leaves_the_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["../escape.safetensors"] = b"x"
    with pytest.raises(InputError, match="outside of the repository"):
        fetch(hub, tmp_path)


def test_too_little_disk_is_said_first(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = pull.plan(REPOSITORY, tmp_path, endpoint=hub.address)
    huge = pull.RemoteFile("model.safetensors", 10**18, None, None)
    with pytest.raises(SpaceError):
        pull.fetch(pull.PullPlan(REPOSITORY, COMMIT, (*chosen.files, huge), tmp_path))


def test_the_command_says_what_it_would_do_and_did(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dry = run(hub, REPOSITORY, "-o", str(folder), "--dry-run")
    assert "would fetch 1,048,599 bytes" in dry.stdout
    assert not folder.exists()
    done = run(hub, REPOSITORY, "-o", str(folder), "--json")
    assert json.loads(done.stdout)["commit"] == COMMIT


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nobody/nothing"], 1, "nobody/nothing: no such model"),
        ([REPOSITORY, "--revision", "v9"], 1, "no revision 'v9'"),
        (["not a name"], 2, "is not the name of a model"),
    ],
)
def test_wrong_names_are_said_in_one_line(
    hub: Hub, words: list[str], status: int, message: str
) -> None:
    result = run(hub, *words)
    assert (result.exit_code, message in result.stderr) == (status, True), result.stderr
    assert "Traceback" not in result.stderr


def test_no_network_is_exit_3(hub: Hub) -> None:
    hub.address = "http://127.0.0.1:9"
    result = run(hub, REPOSITORY)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"plm-edge: {REPOSITORY}: ")


def test_a_folder_that_cannot_be_made_is_not_the_network(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = run(hub, REPOSITORY, "-o", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.stderr


def test_progress_moves_within_a_file_and_ends_at_the_total(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    seen: list[tuple[int, int]] = []
    chosen = pull.plan(REPOSITORY, tmp_path, endpoint=hub.address)
    pull.fetch(chosen, endpoint=hub.address, progress=lambda *step: seen.append(step))
    assert seen == sorted(seen)
    assert len(seen) > 16
    assert seen[-1] == (chosen.size_bytes, chosen.size_bytes)
