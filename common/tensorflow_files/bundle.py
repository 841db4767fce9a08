"""TensorFlow's checkpoints, bundles and those of one file: what is in them, and the arrays, without TensorFlow.

`PREFIX.index` is a table in LevelDB's format: blocks of keys and messages, a block that says where these lie, and a
footer that says where that one lies; each message says where in `PREFIX.data-*` an array lies. Before version 1.0 all
was one such table, the values in its messages; TF-Slim's checkpoints of 2016 are of this kind. Every block and array
has a checksum. TensorFlow itself ends the whole process over an index that holds impossible shapes, types or messages,
and takes whatever memory one asks for.
"""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from common.tensorflow_files.crc32c import crc32c, masked
from common.tensorflow_files.messages import BundleEntry, BundleHeader, TensorSlices

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
LARGEST, LARGEST_SINGLE = 2**24, 2**31
"""Bytes of an index, and of a single file; a network of a thousand variables has an index of some 60 thousand."""
_LONGEST, _LONGEST_NAME = 2**16, 1024
"""Bytes of a message and of a name."""
MOST_ARRAYS = 50_000
_MOST_DIMENSIONS, _MOST_NUMBERS = 32, 2**60


_KINDS = {
    1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?", 17: "u2", 18: "c16", 19: "f2",
    22: "u4", 23: "u8",
}  # fmt: skip
"""numpy's types by TensorFlow's numbers."""
_SIZES = {7: 0, 20: 0, 21: 0, 11: 1, 12: 1, 13: 4, 14: 2, 15: 2, 16: 2}
"""Bytes of types that numpy has not: text and handles, whose sizes vary; quantized numbers and bfloat16."""


class Place(NamedTuple):
    """Place of an array's bytes."""

    file: Path
    offset: int
    size: int
    checksum: int


class Array(NamedTuple):
    """An index's entry about an array.

    Attributes:
        shape: of it.
        kind: numpy's type, little-endian; None for text, handles and numbers that numpy has not.
        place: in the files with the values; None where `values` are at hand.
        values: of a checkpoint of one file.
    """

    shape: tuple[int, ...]
    kind: str | None
    place: Place | None = None
    values: np.ndarray | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether `read_values` can give it."""
        return self.kind is not None


def read_index(prefix: Path) -> dict[str, Array]:
    """The arrays of a checkpoint by name, all of which lie in its files.

    Raises:
        OSError: no such file.
        ValueError: the index is damaged, or contradicts itself or the files with the values.
    """
    rows = _rows_of_table(_content(Path(f"{prefix}.index"), LARGEST))
    last, header = next(rows, (None, b""))
    if last != b"":
        raise ValueError("the index has no header")
    announced = _message(BundleHeader, header)
    shards = announced.num_shards
    if not 1 <= shards <= 99_999 or announced.endianness:
        raise ValueError(f"the index speaks of {shards} files with values, byte order {announced.endianness}")
    arrays: dict[str, Array] = {}
    sizes: dict[int, int] = {}
    for key, message in rows:
        if key <= last or len(arrays) == MOST_ARRAYS:
            raise ValueError(
                "its names are not in order" if key <= last else f"it has more than {MOST_ARRAYS:,} arrays"
            )
        last = key
        arrays[key.decode("utf-8")] = _array(prefix, shards, sizes, message)
    return arrays


def _content(path: Path, largest: int) -> bytes:
    if path.stat().st_size > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return path.read_bytes()


def _array(prefix: Path, shards: int, sizes: dict[int, int], message: bytes) -> Array:
    """Read a message about an array; `sizes` of the files with values are looked up once."""
    entry = _message(BundleEntry, message)
    shape = tuple(dimension.size for dimension in entry.shape.dim)
    if entry.shape.unknown_rank or entry.slices:
        raise ValueError("an array is of no fixed shape, or in slices")
    whole = len(shape) <= _MOST_DIMENSIONS and min(shape, default=0) >= 0
    if not whole or math.prod(max(length, 1) for length in shape) > _MOST_NUMBERS:
        raise ValueError(f"an array has the shape {str(shape)[:80]}")
    kind = _KINDS.get(entry.dtype)
    if kind is None and entry.dtype not in _SIZES:
        raise ValueError(f"an array is of the unknown type {entry.dtype}")
    if not 0 <= entry.shard_id < shards:
        raise ValueError("an array lies in a file that there is none of")
    file = Path(f"{prefix}.data-{entry.shard_id:05d}-of-{shards:05d}")
    if entry.shard_id not in sizes:
        sizes[entry.shard_id] = file.stat().st_size
    item = np.dtype(kind).itemsize if kind else _SIZES[entry.dtype]
    right = math.prod(shape) * item == entry.size if item else math.prod(shape) <= entry.size
    if not right or entry.offset < 0 or entry.offset + entry.size > sizes[entry.shard_id]:
        raise ValueError(f"an array of shape {shape} lies at {entry.offset} to {entry.offset + entry.size} of "
                         f"{sizes[entry.shard_id]}")  # fmt: skip
    return Array(shape, kind, Place(file, entry.offset, entry.size, entry.crc32c))


def read_values(array: Array) -> np.ndarray:
    """The numbers of an array that is numeric.

    Raises:
        OSError: the file is gone.
        ValueError: the bytes are not those that were written.
    """
    if array.place is None:
        assert array.values is not None  # one of the two is there
        return array.values.reshape(array.shape)
    with open(array.place.file, "rb") as file:
        file.seek(array.place.offset)
        content = file.read(array.place.size)
    if len(content) != array.place.size or masked(crc32c(content)) != array.place.checksum:
        raise ValueError("its checksum is another")
    return np.frombuffer(content, np.dtype(array.kind).newbyteorder("<")).astype(array.kind).reshape(array.shape)


def is_single_file(path: Path) -> bool:
    """Whether a file is a table, as a checkpoint of one file is."""
    if not path.is_file() or path.stat().st_size < _FOOTER or os.path.lexists(f"{path}.index"):
        return False  # beside an index TensorFlow does not look at it
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        return struct.unpack("<Q", file.read(8))[0] == _MAGIC


def read_single_file(path: Path) -> dict[str, Array]:
    """The arrays of a checkpoint that `tf.train.Saver` wrote in its version 1, by name.

    Raises:
        OSError: no such file.
        ValueError: it is damaged, contradicts itself, or holds an array in slices.
    """
    content = _content(path, LARGEST_SINGLE)
    rows = _rows_of_table(content)
    last, first = next(rows, (None, b""))
    if last != b"":
        raise ValueError("the table does not say what it holds")
    announced = _message(TensorSlices, first, len(content)).meta.tensor
    described = {one.name: one for one in announced}
    if len(described) != len(announced) or len(described) > MOST_ARRAYS:
        raise ValueError(f"a name stands there twice, or there are more than {MOST_ARRAYS:,}")
    arrays: dict[str, Array] = {}
    for key, message in rows:
        saved = _message(TensorSlices, message, len(content)).data
        if key <= last or saved.name not in described or saved.name in arrays:
            raise ValueError("its names are not in order, stand there twice, or are not announced")
        last, arrays[saved.name] = key, _announced(described[saved.name], saved)
        if key != _key(saved.name, len(arrays[saved.name].shape)):
            raise ValueError(f"{saved.name!r} stands in another's place")
    if len(arrays) != len(described):
        raise ValueError(f"only {len(arrays)} of {len(described)} arrays are there")
    return arrays


def _key(name: str, dimensions: int) -> bytes:
    """Key that TensorFlow looks an array up by, all of it; it reads as many numbers as that name's shape says."""
    text = name.encode().replace(b"\0", b"\0\xff")
    return b"\0" + text + b"\0\1" + (bytes([1, dimensions]) if dimensions else b"\0") + b"\x80\x7f" * dimensions


_LISTS = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val"}
"""Fields with the numbers of a type; others are not read."""


def _announced(described, saved) -> Array:
    """An array from what the table says of it first, and from where its numbers are."""
    shape = tuple(dimension.size for dimension in described.shape.dim)
    slices = [saved.slice, *described.slice]
    sliced = len(slices) != 2 or any(one.start or one.HasField("length") for each in slices for one in each.extent)
    if sliced or any(len(each.extent) != len(shape) for each in slices) or described.shape.unknown_rank:
        raise ValueError(f"{described.name!r} is in slices, or of no fixed shape")
    whole = len(shape) <= _MOST_DIMENSIONS and min(shape, default=0) >= 0
    if not whole or math.prod(max(length, 1) for length in shape) > _MOST_NUMBERS:
        raise ValueError(f"{described.name!r} has the shape {str(shape)[:80]}")
    if described.type not in _LISTS:
        return Array(shape, None)
    kind = _KINDS[described.type]
    values = np.array(getattr(saved.data, _LISTS[described.type]), kind)
    count = len(values)
    if math.prod(shape) != count:
        raise ValueError(f"{described.name!r} has {count:,} numbers for the shape {str(shape)[:80]}")
    return Array(shape, kind, values=values)


def _message(kind: Any, content: bytes, longest: int = _LONGEST):
    if len(content) > longest:
        raise ValueError(f"a message of {len(content):,} bytes")
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise ValueError("a message in it can't be read") from error


def _rows_of_table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(content) < _FOOTER or struct.unpack("<Q", content[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does")
    footer = content[-_FOOTER:]
    place = 0
    handles = []
    for _ in range(4):  # offset and size of a block that nothing is read from, and of the one that leads to the others
        value, place = _varint(footer, place)
        handles.append(value)
    read = 0
    for _, handle in _rows(_block(content, handles[2], handles[3])):
        offset, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        read += size
        if read > len(content):
            raise ValueError("its blocks overlap")
        yield from _rows(_block(content, offset, size))


def _block(content: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER > len(content):
        raise ValueError(f"a block lies at {offset} to {end} of {len(content)}")
    if content[end] != 0:
        raise ValueError("a block is compressed, which TensorFlow writes none of")
    if masked(crc32c(memoryview(content)[offset : end + 1])) != struct.unpack_from("<I", content, end + 1)[0]:
        raise ValueError(f"the checksum of the block at {offset} is another")
    return content[offset:end]


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values. A key says how much it shares with the one before it; the block ends with where some don't."""
    if len(block) < 4:
        raise ValueError("a block is too short")
    count = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 - 4 * count
    if end < 0:
        raise ValueError("a block is too short")
    restarts = struct.unpack(f"<{count}I", block[end:-4])
    wholes = {0}
    place, key = 0, b""
    while place < end:
        start = place
        shared, place = _varint(block, place)
        unshared, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("a key or value leaves its block")
        if shared + unshared > _LONGEST_NAME:
            raise ValueError(f"a name is longer than {_LONGEST_NAME} bytes")
        if shared == 0:
            wholes.add(start)
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length
    if not restarts or not wholes.issuperset(restarts):
        raise ValueError("a block says otherwise where its keys begin than they do")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of up to 63 bits, of which each byte holds seven; and where it ends."""
    value = 0
    for number in range(9):
        if place + number >= len(content):
            break
        byte = content[place + number]
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, place + number + 1
    raise ValueError("a number in it has no end")
