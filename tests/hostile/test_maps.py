"""Localization maps that other programs made."""

import os
import pickle
import struct

import numpy as np
import pytest

from common.adopt import Adopt, adopt
from common.datasets import DataSource
from common.evaluate import Evaluate
from common.measuring.geometry import Frame
from common.report import Report, build
from common.results.evaluation import evaluate
from common.runs.reader import Predictions, read_map
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter
from tests import runs, small_cub
from tests.hostile.payloads import refused

FRAME = Frame.squash((80, 60))
GOOD = np.linspace(0, 1, 224 * 224).reshape(224, 224)


def changed(value, dtype=np.float32):
    array = GOOD.astype(dtype)
    array[3, 4] = value
    return array


def lying(descr: str = "'<f4'", shape: str = "(224, 224)", data: bytes = bytes(64), order: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize("array", [
    changed(np.nan), changed(np.inf), changed(-np.inf), changed(-0.001), changed(1.001), changed(255), changed(-1e-30),
    (GOOD * 255).astype(np.uint8), GOOD > 0.5, (GOOD * 9).astype(np.int64), GOOD.astype(np.complex64), GOOD.astype(str),
    GOOD.astype(np.longdouble), GOOD[:100], GOOD[None], GOOD[..., None], GOOD.ravel(), np.float32(0.5), np.zeros((0, 224)), np.zeros((0, 0)),
    np.zeros((224, 224), [("a", "f4")]), np.zeros((224, 224), "M8[s]"),
], ids=range(22))  # fmt: skip
def test_maps_that_are_none(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    refused(lambda: read_map(tmp_path / "a.npy", FRAME), tmp_path / "a.npy")


def test_maps_that_are_pickles(tmp_path, payload):
    path = tmp_path / "a.npy"
    for thing in payload.objects().values():
        holder = np.empty((224, 224), dtype=object)
        holder[:] = thing
        np.save(path, holder, allow_pickle=True)
        refused(lambda: read_map(path, FRAME), path)
    for content in payload.pickles().values():
        path.write_bytes(content)
        refused(lambda: read_map(path, FRAME), path)
        path.write_bytes(lying("'|O'", data=content))
        refused(lambda: read_map(path, FRAME), path)


@pytest.mark.parametrize("content", [
    b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x03\x00\xff\xff\xff\xff", b"\x93NUMPY\x09\x00\x00\x00",
    lying(), lying(data=bytes(224 * 224 * 4 - 1)), lying(shape="(1000000, 1000000)"), lying(shape="(2**40,)"),
    lying(shape="(-224, -224)"), lying(shape="(99999999999999999999, 1)"), lying(shape="(224.0, 224)"), lying(shape="(True, True)"),
    lying(shape="((((((1"), lying("__import__('os').system('true')"), lying("'<f4', 'descr': '|O'"), lying("'<f999999999'"),
    lying("[('a', '<f4', (224,224))]"), lying("'V4'"), lying(order="'x'"), lying(shape="[" * 90), b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
    b"\x93NUMPY\x01\x00\x10\x27" + b"-" * 9_999 + b"1", b"\x93NUMPY\x01\x00\x05\x00{'a':", b"\x93NUMPY\x01\x00\x02\x00'\n", pickle.dumps([1]),
], ids=range(26))  # fmt: skip
def test_headers_that_lie(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(lambda: read_map(path, FRAME), path)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">f8", np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_holds_the_same_numbers_is_scored_and_drawn_alike(tmp_path, dtype, order):
    """Half precision, another byte order, columns first: OpenCV takes none of them as they are."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    run = runs.write(tmp_path / "run", source, misses=1)
    expected = [row.gt_known for row in evaluate(Evaluate((run,), workers=1))[0][0].rows]
    for path in run.rglob("*.npy"):
        np.save(path, np.asarray(np.load(path).astype(dtype), order=order))
    assert read_map(next(run.rglob("*.npy")), FRAME).dtype in (np.dtype("=f4"), np.dtype("=f8"))
    assert [row.gt_known for row in evaluate(Evaluate((run,), workers=1))[0][0].rows] == expected
    assert "data:image/jpeg" in build(Report((run,), workers=1))


def test_adopting_leaves_out_the_map_that_is_none_and_names_it(tmp_path, capsys):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    run = runs.write(tmp_path / "run", source)
    paths = sorted((run / "maps").rglob("*.npy"))
    contents = (b"", lying(shape="(1000000, 1000000)"), lying(shape="(-224, -224)"), lying("'|O'"), pickle.dumps([1]))
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    adopt(Adopt(run / "maps", source, tmp_path / "adopted", "theirs"))
    assert len(Predictions.open(tmp_path / "adopted").skipped) == 5
    printed = capsys.readouterr()
    named = [path.name.removesuffix(".npy") in printed.out + printed.err for path in paths[:5]]
    assert sum(named) >= 3, printed


def test_adopted_maps_are_never_written_over(tmp_path):
    """`maps` of an adopted directory is a link to another program's files."""
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    theirs = runs.write(tmp_path / "theirs", source) / "maps"
    adopt(Adopt(theirs, source, tmp_path / "adopted", "theirs"))
    before = {path: path.read_bytes() for path in theirs.rglob("*.npy")}
    writer = PredictionsWriter(tmp_path / "adopted", runs.header(source, method="ours"), overwrite=True)
    found = read_map(next(iter(before)), FRAME)
    sample = source.load().samples[0]
    writer.write(Prediction(sample.image_id, 0, (80, 60), FRAME, None, None, None, 0.2), np.zeros_like(found))
    assert {path: path.read_bytes() for path in theirs.rglob("*.npy")} == before
    assert not os.path.islink(tmp_path / "adopted" / "maps")
