import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from common.datasets.files import mat_files
from common.datasets.files.mat_files import fields, read_mat
from common.system.errors import UserError
from tests.official_sets import cells, records

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(class_number, sides, *parts, name=b"a"):
    flags = element(6, struct.pack("<II", class_number, 0))
    return element(14, flags + element(5, struct.pack(f"<{len(sides)}i", *sides)) + element(1, name) + b"".join(parts))


def nested(depth):
    inner = array(6, (1, 1), element(9, struct.pack("<d", 1.0)), name=b"")
    for _ in range(depth):
        inner = array(1, (1, 1), inner, name=b"")
    return array(1, (1, 1), inner)


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_read(tmp_path, packed):
    path = tmp_path / "a.mat"
    savemat(path, {"a": cells(["x", "yz"]), "b": records([{"n": 3, "t": "u"}]), "c": np.eye(2)}, do_compression=packed)
    found = read_mat(path, "a", "b")
    assert set(found) == {"a", "b"}
    assert [mat_files.text(cell, where=path, what="x") for cell in found["a"].ravel()] == ["x", "yz"]
    (numbers, texts) = fields(found["b"], "n", "t", where=path)
    assert mat_files.number(numbers[0], where=path, what="n") == 3.0
    assert mat_files.text(texts[0], where=path, what="t") == "u"
    with pytest.raises(UserError, match="no entry has a z; expected a struct of n, z"):
        fields(found["b"], "n", "z", where=path)
    with pytest.raises(UserError, match="it holds no d; expected a and d"):
        read_mat(path, "a", "d")


def test_a_file_made_by_hand(tmp_path):
    """The smallest file: one double called `a`, by the format's specification."""
    path = written(tmp_path / "a.mat", HEADER + array(6, (1, 1), element(9, struct.pack("<d", 2.5))))
    assert read_mat(path, "a")["a"].tolist() == [[2.5]]
    assert read_mat(written(path, HEADER + nested(2)), "a")["a"].shape == (1, 1)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "it has no header"),
    (b"\x89HDF\r\n", "it has no header"),
    (HEADER[:124] + struct.pack("<H", 0x0200) + b"IM", "another version, such as 7.3"),
    (HEADER, "it holds no a"),
    (HEADER + array(6, (1, 1), element(9, struct.pack("<d", 2.5)))[:-4], "it is cut off"),
    (HEADER + element(15, zlib.compress(array(6, (1, 1), element(9, bytes(8))))[:-6]), "it is cut off"),
    (HEADER + element(15, b"no zlib stream at all"), "no MATLAB file that can be read"),
    (HEADER + nested(20), "nested more than 8 deep"),
    (HEADER + element(15, zlib.compress(nested(20))), "nested more than 8 deep"),
    (HEADER + array(1, (2**30, 2**30)), "an array has more elements than bytes"),
    (HEADER + array(2, (2**30, 1), element(5, struct.pack("<i", 32)), element(1, b"")), "an array has more elements than bytes"),
    (HEADER + array(6, (-1, 4), element(9, bytes(8))), "an array has more elements than bytes"),
    (HEADER + element(15, zlib.compress(bytes(1100))) , "it unpacks to more than 0 MiB"),
])  # fmt: skip
def test_hostile_files_are_refused_in_a_line(tmp_path, monkeypatch, content, message):
    if "unpacks" in message:
        monkeypatch.setattr(mat_files, "MAX_BYTES", 1000)
    path = written(tmp_path / "a.mat", content)
    with pytest.raises(UserError, match=message) as caught:
        read_mat(path, "a")
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_files, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="larger than 0 MiB"):
        read_mat(written(tmp_path / "a.mat", HEADER), "a")


def test_truncation_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"a": cells(["one", "two"])}, do_compression=True)
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        with pytest.raises(UserError):
            read_mat(written(tmp_path / "cut.mat", whole[:length]), "a")
