import errno
import io
import sys

import numpy as np
import pytest

from common.system.archives import put_arrays

ARRAYS = {"keys": np.arange(3), "cam": np.linspace(0, 1, 600, dtype=np.float32).reshape(3, 10, 20)}


class Full(io.BytesIO):
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room: int):
        super().__init__()
        self.room = room

    def write(self, content) -> int:
        if self.tell() + len(content) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_arrays_come_back():
    file = io.BytesIO()
    put_arrays(file, ARRAYS)
    savez = io.BytesIO()
    np.savez(savez, **ARRAYS)
    for content in (file, savez):
        content.seek(0)
        with np.load(content, allow_pickle=False) as found:
            assert found.files == list(ARRAYS)
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(found[name], array)
                assert found[name].dtype == array.dtype
    assert len(file.getvalue()) == len(savez.getvalue())


def test_a_full_disk_is_an_error_and_nothing_else(monkeypatch):
    """At whatever byte: the file is closed at once, and nothing is left that complains later."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    whole = io.BytesIO()
    put_arrays(whole, ARRAYS)
    for room in range(0, len(whole.getvalue()), 50):
        with pytest.raises(OSError, match="No space left"), Full(room) as file:
            put_arrays(file, ARRAYS)
    assert said == []


def test_objects_are_refused():
    with pytest.raises(ValueError, match="allow_pickle"):
        put_arrays(io.BytesIO(), {"a": np.array([{}], object)})
