"""Pushing a file: what is sent, what is not, and what is left when it goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plm_edge.console import Progress
from plm_edge.device.local import LocalTransport
from plm_edge.device.push import Pusher, local_sha256, look
from plm_edge.errors import DeviceError, SpaceError, ToolError


class Recorder(LocalTransport):
    """This machine, with a note of every offset something was sent from."""

    def __init__(self) -> None:
        super().__init__("here")
        self.offsets: list[int] = []
        self.breaks_after: int | None = None
        self.damages = False

    def send(self, local: Path, remote: str, offset: int, progress: Progress) -> None:
        self.offsets.append(offset)
        if self.breaks_after is not None:
            with local.open("rb") as source, open(remote, "ab") as sink:
                source.seek(offset)
                sink.write(source.read(self.breaks_after))
            raise DeviceError("here: the wire broke")
        super().send(local, remote, offset, progress)
        if self.damages:
            with open(remote, "r+b") as sink:
                sink.write(b"?")


@pytest.fixture
def here() -> Recorder:
    return Recorder()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my model's $(id).gguf"
    path.write_bytes(os.urandom(3_000_000))
    return path


@pytest.fixture
def far(tmp_path: Path, model: Path) -> Path:
    return tmp_path / "far folder" / model.name


def test_a_new_file_arrives_whole_with_nothing_beside_it(
    here: Recorder, model: Path, far: Path
) -> None:
    reports: list[tuple[int, int]] = []

    pushed = here.push(model, str(far), lambda done, total: reports.append((done, total)))

    assert far.read_bytes() == model.read_bytes()
    assert (pushed.resumed_at, pushed.sent_bytes) == (0, 3_000_000)
    assert reports[-1] == (3_000_000, 3_000_000)
    assert sorted(os.listdir(far.parent)) == [f".{far.name}.sum", far.name]
    assert far.stat().st_mode & 0o777 == 0o644


def test_programs_can_be_executed_there(here: Recorder, model: Path, far: Path) -> None:
    here.push(model, str(far), is_executable=True)

    assert far.stat().st_mode & 0o777 == 0o755


def test_the_same_content_is_not_sent_again(here: Recorder, model: Path, far: Path) -> None:
    here.push(model, str(far))
    assert not Pusher(here, model, str(far), False).is_needed(look(here, [str(far)])[0])

    pushed = here.push(model, str(far))

    assert here.offsets == [0]
    assert pushed.sent_bytes == 0


def test_the_same_content_put_there_by_somebody_else_is_not_sent(
    here: Recorder, model: Path, far: Path
) -> None:
    far.parent.mkdir()
    far.write_bytes(model.read_bytes())

    assert here.push(model, str(far)).sent_bytes == 0


def test_a_file_changed_there_is_sent_again(here: Recorder, model: Path, far: Path) -> None:
    here.push(model, str(far))
    raw = bytearray(far.read_bytes())
    raw[1000] ^= 1
    far.write_bytes(bytes(raw))
    os.utime(far, (1, 1))

    here.push(model, str(far))

    assert far.read_bytes() == model.read_bytes()
    assert here.offsets == [0, 0]


def test_an_interrupted_push_goes_on_where_it_stopped(
    here: Recorder, model: Path, far: Path
) -> None:
    here.breaks_after = 1_234_567
    with pytest.raises(DeviceError, match="wire broke"):
        here.push(model, str(far))
    assert not far.exists()
    here.breaks_after = None

    pushed = here.push(model, str(far))

    assert here.offsets == [0, 1_234_567]
    assert pushed.resumed_at == 1_234_567
    assert far.read_bytes() == model.read_bytes()


def test_the_rest_of_another_file_is_not_gone_on_with(
    here: Recorder, model: Path, far: Path
) -> None:
    here.breaks_after = 1_000
    with pytest.raises(DeviceError):
        here.push(model, str(far))
    here.breaks_after = None
    model.write_bytes(os.urandom(3_000_000))

    here.push(model, str(far))

    assert here.offsets == [0, 0]
    assert far.read_bytes() == model.read_bytes()


def test_what_arrives_damaged_never_gets_its_name(here: Recorder, model: Path, far: Path) -> None:
    here.damages = True

    with pytest.raises(DeviceError, match="arrived damaged") as caught:
        here.push(model, str(far))

    assert caught.value.hint == "run the same command again"
    assert os.listdir(far.parent) == []


def test_an_old_file_stays_until_the_new_one_is_whole(
    here: Recorder, model: Path, far: Path
) -> None:
    far.parent.mkdir()
    far.write_bytes(b"old")
    here.damages = True

    with pytest.raises(DeviceError):
        here.push(model, str(far))

    assert far.read_bytes() == b"old"


def test_too_little_space_is_said_before_anything_is_sent(
    here: Recorder, model: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "free_bytes", lambda folder: 2_000_000)

    with pytest.raises(SpaceError, match=r"needs 3 MB, but .*far folder has 2 MB free"):
        here.push(model, str(far))

    assert not far.parent.exists()


def test_a_folder_that_cannot_be_written_is_told(here: Recorder, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    with pytest.raises(ToolError, match=r"(?s)here: .*/proc/no"):
        here.push(empty, "/proc/no/model.gguf")


def test_an_empty_file_arrives(here: Recorder, tmp_path: Path, far: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    here.push(empty, str(far))

    assert far.read_bytes() == b""


def test_sha256_is_the_files(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    digest = local_sha256(tmp_path / "abc")

    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
