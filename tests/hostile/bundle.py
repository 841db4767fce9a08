"""TensorFlow's checkpoint index, forged: its checksums are right, whatever else is not.

The index is a table in LevelDB's format: blocks of keys and values, each block with a checksum, a block that says where
the others lie, and a footer. Values are messages that say where in the data file an array lies.
"""

import struct
from collections.abc import Iterable, Mapping

from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

MAGIC = 0xDB4775248B80FB57
FLOAT = 1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """Castagnoli's checksum."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def masked(value: int) -> int:
    """As LevelDB and TensorFlow write a checksum."""
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def block(
    rows: Iterable[tuple[bytes, bytes]], restarts: tuple[int, ...] = (0,), lie: tuple[int, int, int] | None = None
) -> bytes:
    """A block without its trailer; `lie` is shared, unshared and value length of the last row, as written there."""
    content, rows = b"", list(rows)
    for number, (key, value) in enumerate(rows):
        said = lie if lie is not None and number == len(rows) - 1 else (0, len(key), len(value))
        content += b"".join(map(varint, said)) + key + value
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def trailed(content: bytes, compression: int = 0) -> bytes:
    kind = bytes([compression])
    return content + kind + struct.pack("<I", masked(crc32c(content + kind)))


def handle(offset: int, size: int) -> bytes:
    return varint(offset) + varint(size)


def table(
    data: bytes, compression: int = 0, points_to: tuple[int, int] | None = None, footer: tuple[int, int] | None = None
) -> bytes:
    """A table of one block of data.

    Args:
        data: the block.
        compression: its trailer's word on it.
        points_to: what the index block says of it, instead of the truth.
        footer: what the footer says of the index block, instead of the truth.
    """
    first = trailed(data, compression)
    meta = trailed(block([]))
    index = block([(b"\xff", handle(*(points_to or (0, len(data)))))])
    places = handle(len(first), len(meta) - 5) + handle(*(footer or (len(first) + len(meta), len(index))))
    return first + meta + trailed(index) + places.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def header(shards: int = 1, endianness: int = 0, producer: int = 1) -> bytes:
    message = BundleHeaderProto(num_shards=shards, endianness=endianness)
    message.version.producer = producer
    return message.SerializeToString()


def entry(shape: Iterable[int] = (4, 2), size: int = 32, offset: int = 0, dtype: int = FLOAT, shard: int = 0,
          crc: int | None = None, data: bytes = bytes(32), unknown_rank: bool = False, slices: Iterable[Iterable[tuple[int, int]]] = ()) -> bytes:  # fmt: skip
    """A message about an array; by default 4 x 2 zeros."""
    message = BundleEntryProto(dtype=dtype, shard_id=shard, offset=offset, size=size)
    message.crc32c = masked(crc32c(data)) if crc is None else crc
    for length in shape:
        message.shape.dim.add(size=length)
    message.shape.unknown_rank = unknown_rank
    for extents in slices:
        found = message.slices.add()
        for start, length in extents:
            found.extent.add(start=start, length=length)
    return message.SerializeToString()


def index(entries: Mapping[str, bytes], head: bytes | None = None) -> bytes:
    """An index file of these arrays."""
    rows = {b"": header() if head is None else head, **{name.encode(): value for name, value in entries.items()}}
    return table(block(sorted(rows.items())))
