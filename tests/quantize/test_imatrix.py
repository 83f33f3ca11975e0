"""Importance matrices: kept whole, merged by adding up, refused where they do not belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize import imatrix, imatrix_report, quantizer, recipe
from plm_edge.quantize import plan as planning
from plm_edge.quantize.imatrix import Entry, Imatrix, Origin
from tests.quantize.tiny import write_model


def made(header: GgufHeader, text: str = "a", seed: int = 1) -> Imatrix:
    """Random importance for every matrix of a file."""
    draw = np.random.default_rng(seed)
    columns, neurons = {}, {}
    for tensor in header.tensors:
        if not planning.is_matrix_weight(tensor):
            continue
        if header.layout == "edge" and "ffn_down" in tensor.name:
            sums = draw.random((1, tensor.shape[0]), np.float32)
            neurons[tensor.name] = Entry(sums, 100)
            continue
        matrices = int(np.prod(tensor.shape[:-2]))
        sums = draw.random((matrices, tensor.shape[-1]), np.float32)
        columns[tensor.name] = Entry(sums, 100)
    origin = Origin(
        imatrix.weights_id(header), header.layout, ((f"{text}.txt", text * 64),), 512, 3
    )
    return Imatrix(origin, columns, neurons)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    one = made(read_header(write_model(tmp_path / "m.gguf")))
    imatrix.write(tmp_path / "i.gguf", one)
    back = imatrix.read(tmp_path / "i.gguf")
    assert back.origin == one.origin
    assert back.columns.keys() == one.columns.keys() and back.neurons.keys() == one.neurons.keys()
    for name, entry in one.columns.items():
        assert (back.columns[name].sums == entry.sums).all()
        assert back.columns[name].count == 100


def test_single_windows_add_up_to_the_whole(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    parts = [made(header, seed=seed) for seed in (1, 2, 3)]
    whole = imatrix.summed(parts, tmp_path / "i.gguf")
    assert whole.origin == replace(parts[0].origin, windows=9)
    for name, entry in whole.columns.items():
        sums = sum(part.columns[name].sums for part in parts)
        assert np.allclose(entry.sums, sums) and entry.count == 300
    assert whole.neurons.keys() == parts[0].neurons.keys()


@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_the_quantizer_takes_it_and_the_size_is_foretold(
    tmp_path: Path, engine: Engine, layout: str
) -> None:
    source = read_header(write_model(tmp_path / "m.gguf", layout=layout))
    path = tmp_path / "with ü.gguf"
    one = made(source)
    imatrix.write(path, one)
    request = quantizer.Request(source, tmp_path / "out.gguf", 1, importance=path)
    added = imatrix.quantizer_keys(one, path)
    for name in ("q4", "q4-k"):
        plan = planning.make(source, recipe.find(name), added)
        report = quantizer.apply(request, plan, engine)
        meta = read_header(report.path).metadata
        assert meta["quantize.imatrix.entries_count"] == one.entries
        assert meta["quantize.imatrix.file"] == str(path)
    plain = planning.make(source, recipe.find("q4"))
    quantizer.apply(replace(request, target=tmp_path / "p.gguf", importance=None), plain, engine)
    name = "blk.0.attn_q.weight"
    sides = [
        next(t for t in gguf.GGUFReader(tmp_path / file).tensors if t.name == name).data
        for file in ("out.gguf", "p.gguf")
    ]
    assert sides[0].shape != sides[1].shape or (sides[0] != sides[1]).any()


def test_another_model_or_layout_is_refused(tmp_path: Path) -> None:
    source = read_header(write_model(tmp_path / "m.gguf"))
    one, path = made(source), tmp_path / "i.gguf"
    imatrix.require_fit(one, path, source)
    imatrix.require_fit(one, path, read_header(write_model(tmp_path / "q.gguf", dtype="q8_0")))
    stock = read_header(write_model(tmp_path / "s.gguf", layout="stock"))
    with pytest.raises(InputError, match=r"i\.gguf: measured on the edge layout, .* has stock"):
        imatrix.require_fit(one, path, stock)
    raw = bytearray((tmp_path / "m.gguf").read_bytes())
    place = source.tensor("output_norm.weight").offset
    raw[place : place + 4] = np.float32(2).tobytes()
    (tmp_path / "o.gguf").write_bytes(raw)
    with pytest.raises(InputError, match=r"measured on another model than .*o\.gguf"):
        imatrix.require_fit(one, path, read_header(tmp_path / "o.gguf"))
    narrow = {name: Entry(entry.sums[:, 1:], 1) for name, entry in one.columns.items()}
    with pytest.raises(InputError, match=r"has \(\d+, \d+\), expected"):
        imatrix.require_fit(replace(one, columns=narrow), path, source)


def test_merging_adds_up_and_takes_no_text_twice(tmp_path: Path) -> None:
    source = read_header(write_model(tmp_path / "m.gguf"))
    one, two = made(source, "a", 1), made(source, "b", 2)
    both = imatrix.merge(one, two, tmp_path / "two.gguf")
    name = "blk.0.attn_k_b.weight"
    assert both.columns[name].sums == pytest.approx(one.columns[name].sums + two.columns[name].sums)
    assert (both.columns[name].count, both.origin.windows) == (200, 6)
    assert [text for text, _ in both.origin.texts] == ["a.txt", "b.txt"]
    with pytest.raises(InputError, match=r"two\.gguf: a\.txt is in already"):
        imatrix.merge(both, one, tmp_path / "two.gguf")
    other = replace(two, origin=replace(two.origin, weights="x"))
    with pytest.raises(InputError, match="another model or layout"):
        imatrix.merge(one, other, tmp_path / "two.gguf")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no importance matrix"):
        imatrix.read(write_model(tmp_path / "m.gguf"))
    writer = gguf.GGUFWriter(tmp_path / "u.gguf", "plm")
    writer.add_type("imatrix")
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    with pytest.raises(InputError, match="does not say which model and layout"):
        imatrix.read(tmp_path / "u.gguf")
    broken = made(read_header(tmp_path / "m.gguf"))
    broken.columns["blk.0.attn_q.weight"].sums[0, 3] = np.nan
    imatrix.write(tmp_path / "n.gguf", broken)
    with pytest.raises(InputError, match=r"attn_q\.weight holds what is no number"):
        imatrix.read(tmp_path / "n.gguf")


def test_the_report_says_where_the_weight_lies(tmp_path: Path) -> None:
    one = made(read_header(write_model(tmp_path / "m.gguf")))
    silent = np.zeros((1, 512), np.float32)
    silent[0, :5] = 7
    quiet = {name: Entry(silent, 100) for name in one.neurons}
    rows = {row.role: row for row in imatrix_report.rows(replace(one, neurons=quiet))}
    neurons = rows["ffn_down.weight (neurons)"]
    assert (neurons.tensors, neurons.columns) == (3, 512)
    assert neurons.silent == pytest.approx(507 / 512) and neurons.concentration == 1
    assert rows["attn_k_b.weight"].columns == 4 * 128
