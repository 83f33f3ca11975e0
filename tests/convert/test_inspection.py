"""What inspect says is what the files hold; broken files are named in one line."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.convert import inspection
from plm_edge.convert.pipeline import convert
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.errors import InputError, PlmEdgeError

SHAPE = replace(SHAPES["tiny"], vocab_size=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model") / "a föld er"
    write_checkpoint(made, SHAPE, seed=1)
    return made


@pytest.fixture(scope="module", params=["edge", "stock"])
def gguf(request: pytest.FixtureRequest, folder: Path) -> Path:
    target = folder.parent / f"{request.param}.gguf"
    convert(folder, target, layout=request.param, type_name="q8_0")
    return target


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *words])


def test_a_folder_shows_its_shape_and_label(folder: Path) -> None:
    found = inspection.inspect(folder)
    assert (found.shape, found.is_random, found.kind) == (SHAPE, True, "checkpoint")
    assert found.parameters == SHAPE.parameters
    assert found.bits_per_weight == 16
    assert found.tokenizer.kind == "gpt2"
    assert "random weights" in run(str(folder)).stdout


def test_a_gguf_shows_layout_types_and_cache(gguf: Path) -> None:
    found = inspection.inspect(gguf)
    (epsilon,) = struct.unpack("f", struct.pack("f", SHAPE.rms_norm_eps))  # GGUF keeps float32
    assert found.shape == replace(SHAPE, rms_norm_eps=epsilon)
    assert (found.layout, found.is_random) == (gguf.stem, True)
    assert found.parameters == SHAPE.parameters
    assert found.size_bytes == gguf.stat().st_size
    assert set(found.types) == {"f32", "q8_0"}
    assert 8.5 <= found.bits_per_weight < 9
    latent, full = found.cache_bytes_per_token["f16"]
    assert latent == SHAPE.num_hidden_layers * 2 * SHAPE.latent_width
    assert full == SHAPE.num_hidden_layers * 2 * SHAPE.full_kv_width
    assert found.tokenizer.tokens + found.tokenizer.padding == 300
    assert "<|im_start|>" in (found.tokenizer.template or "")


def test_json_says_the_same_and_tensors_on_demand(gguf: Path) -> None:
    plain = json.loads(run(str(gguf), "--json").stdout)
    assert (plain["random_weights"], "tensors" in plain) == (True, False)
    full = json.loads(run(str(gguf), "--json", "--tensors").stdout)
    assert sum(tensor["size_bytes"] for tensor in full["tensors"]) < plain["size_bytes"]
    lines = run(str(gguf), "--tensors").stdout
    assert all(tensor["name"] in lines for tensor in full["tensors"])


@pytest.mark.parametrize("cut", [0, 3, 7, 100, 4000])
def test_a_cut_file_is_named(gguf: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf.read_bytes()[:cut])
    result = run(str(path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"plm-edge: {path}: ")
    assert "Traceback" not in result.stderr


def test_another_architecture_is_named(gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "llama.gguf"
    old, new = (struct.pack("<Q", len(text)) + text for text in (b"plm", b"abc"))
    path.write_bytes(gguf.read_bytes().replace(old, new))
    with pytest.raises(InputError, match="abc"):
        inspection.inspect(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            inspection.inspect(path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_read_or_refused(gguf: Path, data: st.DataObject) -> None:
    content = bytearray(gguf.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 20_000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = gguf.with_name("damaged.gguf")
    path.write_bytes(bytes(content))
    try:
        inspection.as_table(inspection.inspect(path), with_tensors=True)
    except PlmEdgeError:
        return
