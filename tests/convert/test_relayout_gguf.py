from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType

from plm_edge.convert.gguf_output import Output, lay_out, string, u32
from plm_edge.convert.pipeline import convert
from plm_edge.convert.relayout_gguf import layout_of
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, read_header
from tests.convert.samples import TINY, make_checkpoint

QUANT = {"q4_0", "q8_0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny")


def dequantized(path: Path) -> dict[str, np.ndarray]:
    content, header = path.read_bytes(), read_header(path)
    found = {}
    for tensor in header.tensors:
        data = np.frombuffer(content[tensor.offset : tensor.offset + tensor.size_bytes], np.uint8)
        kind = GGMLQuantizationType[tensor.type.upper()]
        found[tensor.name] = gguf.quants.dequantize(data.reshape(*tensor.shape[:-1], -1), kind)
    return found


def in_type(source: Path, target: Path, kind: str) -> Path:
    """A copy of an f32 GGUF with its matrices quantized by the gguf library."""
    header, values = read_header(source), dequantized(source)
    outputs, parts = [], []
    for tensor in header.tensors:
        chosen = kind if len(tensor.shape) > 1 else "f32"
        outputs.append(Output(tensor.name, tensor.shape, chosen))
        quantized = gguf.quants.quantize(values[tensor.name], GGMLQuantizationType[chosen.upper()])
        parts.append(quantized.tobytes())
    layout = lay_out(header.values, outputs)
    content = bytearray(layout.header + bytes(layout.size_bytes - len(layout.header)))
    for output, part in zip(outputs, parts, strict=True):
        offset = layout.offsets[output.name]
        content[offset : offset + len(part)] = part
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_floats_change_layout_without_loss_there_and_back(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    for layout in ("stock", "edge"):
        convert(folder, tmp_path / layout, layout=layout, type_name=kind)  # type: ignore[arg-type]
    report = convert(tmp_path / "stock", tmp_path / "to-edge")
    assert report.losses == ()
    assert (tmp_path / "to-edge").read_bytes() == (tmp_path / "edge").read_bytes()
    report = convert(tmp_path / "edge", tmp_path / "to-stock", layout="stock")
    assert report.losses == ()
    assert (tmp_path / "to-stock").read_bytes() == (tmp_path / "stock").read_bytes()


def test_a_q4_file_loses_next_to_nothing_and_says_what(folder: Path, tmp_path: Path) -> None:
    stock = convert(folder, tmp_path / "f32", layout="stock", type_name="f32").target
    q4 = in_type(stock, tmp_path / "q4", "q4_0")
    report = convert(q4, tmp_path / "edge")
    header = read_header(tmp_path / "edge")
    was, now = dequantized(q4), dequantized(tmp_path / "edge")
    layers = TINY.num_hidden_layers
    changed = {f"blk.{i}.{name}.weight" for i in range(layers) for name in ("ffn_down", "attn_k_b")}
    assert {loss.tensor for loss in report.losses} == changed
    assert all((loss.was, loss.now) == ("q4_0", "q8_0") for loss in report.losses)
    assert 0 < max(loss.relative_error for loss in report.losses) < 0.008
    assert any("runs the stock file as it is" in note for note in report.notes)
    for name, tensor in header.by_name.items():
        if name in was and name not in changed:
            assert np.array_equal(was[name], now[name])
            assert tensor.type == read_header(q4).by_name[name].type
    # Value rows are whole rows of kv_b: copied as they are.
    assert header.by_name["blk.0.attn_v_b.weight"].type == "q4_0"
    heads, nope, rank = TINY.num_attention_heads, TINY.qk_nope_head_dim, TINY.kv_lora_rank
    kv_b = was["blk.0.attn_kv_b.weight"].reshape(heads, -1, rank)
    assert np.array_equal(now["blk.0.attn_v_b.weight"], kv_b[:, nope:])
    np.testing.assert_allclose(
        now["blk.0.ffn_down.weight"],
        was["blk.0.ffn_down.weight"].T,
        atol=0.01 * abs(was["blk.0.ffn_down.weight"]).max(),
    )


def test_the_measured_loss_is_the_loss(folder: Path, tmp_path: Path) -> None:
    stock = convert(folder, tmp_path / "f32", layout="stock", type_name="f32").target
    q4 = in_type(stock, tmp_path / "q4", "q4_0")
    report = convert(q4, tmp_path / "edge")
    was = dequantized(q4)["blk.1.ffn_down.weight"].T
    now = dequantized(tmp_path / "edge")["blk.1.ffn_down.weight"]
    told = next(loss for loss in report.losses if loss.tensor == "blk.1.ffn_down.weight")
    expected = np.linalg.norm(now - was) / np.linalg.norm(was)
    assert told.relative_error == pytest.approx(expected, rel=1e-5)


def test_edge_q8_goes_back_to_stock(folder: Path, tmp_path: Path) -> None:
    edge = convert(folder, tmp_path / "edge", type_name="q8_0").target
    report = convert(edge, tmp_path / "stock", layout="stock")
    header = read_header(tmp_path / "stock")
    assert layout_of(header) == "stock"
    assert header.by_name["blk.0.attn_kv_b.weight"].type == "q8_0"
    direct = dequantized(convert(folder, tmp_path / "d", layout="stock", type_name="f32").target)
    now = dequantized(tmp_path / "stock")
    for name in ("blk.0.attn_kv_b.weight", "blk.1.ffn_down.weight", "blk.1.attn_q.weight"):
        limit = 0.012 * float(abs(direct[name]).max())
        np.testing.assert_allclose(now[name], direct[name], atol=limit)
    assert len(report.losses) == 2 * TINY.num_hidden_layers


def test_a_type_can_be_asked_for(folder: Path, tmp_path: Path) -> None:
    stock = convert(folder, tmp_path / "f32", layout="stock", type_name="f32").target
    report = convert(in_type(stock, tmp_path / "q8", "q8_0"), tmp_path / "edge", type_name="f16")
    header = read_header(tmp_path / "edge")
    assert header.by_name["blk.0.ffn_down.weight"].type == "f16"
    assert header.by_name["blk.0.attn_q.weight"].type == "q8_0"
    assert max(loss.relative_error for loss in report.losses) < 1e-3


def rewrite(path: Path, **values: object) -> GgufHeader:
    """Give a GGUF other metadata (a name or a number); its tensors stay."""
    header = read_header(path)
    content = path.read_bytes()
    changed = dict(header.values)
    for key, value in values.items():
        name = key.replace("__", ".")
        changed[name] = string(value) if isinstance(value, str) else u32(value)  # type: ignore[arg-type]
    outputs = [Output(t.name, t.shape, t.type) for t in header.tensors]
    layout = lay_out(changed, outputs)
    fresh = bytearray(layout.header + bytes(layout.size_bytes - len(layout.header)))
    for tensor in header.tensors:
        at = layout.offsets[tensor.name]
        fresh[at : at + tensor.size_bytes] = content[
            tensor.offset : tensor.offset + tensor.size_bytes
        ]
    path.write_bytes(fresh)
    return read_header(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"general__architecture": "llama"}, "architecture 'llama', expected PLMForCausalLM"),
        ({"plm__tensor_data_layout": "odd"}, "plm.tensor_data_layout = 'odd', expected 'edge'"),
        ({"split__count": 3}, "one part of 3"),
        ({"plm__feed_forward_length": 128}, r"ffn_down.weight' has the shape \[64, 256\]"),
        ({"plm__attention__kv_lora_rank": 16}, r"attn_kv_b.weight' has the shape"),
        ({"plm__block_count": 0}, "num_hidden_layers = 0"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    folder: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    path = convert(folder, tmp_path / "stock.gguf", layout="stock").target
    rewrite(path, **values)
    with pytest.raises(InputError, match=message):
        convert(path, tmp_path / "edge.gguf")
    assert not (tmp_path / "edge.gguf").exists()


def test_a_file_in_the_layout_already_is_refused(folder: Path, tmp_path: Path) -> None:
    path = convert(folder, tmp_path / "edge.gguf").target
    with pytest.raises(InputError, match="is in edge layout already"):
        convert(path, tmp_path / "again.gguf")


def test_a_type_nobody_can_dequantize_is_named(folder: Path, tmp_path: Path) -> None:
    path = convert(folder, tmp_path / "stock.gguf", layout="stock").target
    header = read_header(path)
    name = "blk.0.ffn_down.weight"
    outputs = [
        Output(t.name, t.shape, "q8_K" if t.name == name else t.type) for t in header.tensors
    ]
    layout = lay_out(header.values, outputs)
    path.write_bytes(layout.header + bytes(layout.size_bytes - len(layout.header)))
    with pytest.raises(InputError, match="type q8_K cannot be turned") as caught:
        convert(path, tmp_path / "edge.gguf")
    assert caught.value.hint == "the engine runs stock layout too: use the file as it is"


def test_a_nan_in_a_gguf_is_named(folder: Path, tmp_path: Path) -> None:
    stock = convert(folder, tmp_path / "f32", layout="stock", type_name="f32").target
    path = in_type(stock, tmp_path / "q8", "q8_0")
    tensor = read_header(path).by_name["blk.1.ffn_down.weight"]
    content = bytearray(path.read_bytes())
    content[tensor.offset : tensor.offset + 2] = b"\x00\x7e"  # the first block's scale
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"'blk\.1\.ffn_down\.weight' holds values that are no"):
        convert(path, tmp_path / "edge.gguf")
