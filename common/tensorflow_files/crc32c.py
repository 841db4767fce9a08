"""Castagnoli's checksum, which every block and array of a TensorFlow checkpoint carries, over many bytes at a time.

The checksum of a text is linear in its bits, so that its parts are summed side by side and joined: what a part gives is
moved past the bytes behind it, which is a 32 x 32 matrix over two elements.
"""

from functools import lru_cache

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)
_MOST_PARTS = 2**14
_SHORT = 2**15
"""Bytes of which Python's own numbers are faster."""
_BYTE = np.uint32(0xFF)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Checksums that each byte makes of zero, (256,) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ _POLYNOMIAL * (table & np.uint32(1))
    return table


def crc32c(content: bytes | memoryview) -> int:
    """The checksum of some bytes."""
    if len(content) < _SHORT:
        return _bytewise(content)
    given = np.frombuffer(content, np.uint8)
    parts = min(_MOST_PARTS, 2 ** (len(given).bit_length() - 6))
    length = -(-len(given) // parts)
    padded = np.zeros(parts * length, np.uint8)
    text = padded[len(padded) - len(given) :]  # zeros in front don't count
    text[:] = given
    text[:4] ^= 0xFF  # what a checksum starts with, put into the text
    sums = np.zeros(parts, np.uint32)
    table = _table()
    for column in np.ascontiguousarray(padded.reshape(parts, length).T):
        sums = table[(sums ^ column) & _BYTE] ^ sums >> np.uint32(8)
    return int(_joined(sums, length)) ^ 0xFFFFFFFF


def _bytewise(content: bytes | memoryview) -> int:
    table = _table().tolist()
    value = 0xFFFFFFFF
    for byte in content:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _joined(sums: np.ndarray, length: int) -> np.uint32:
    """The checksum of parts of one length, a power of two of them."""
    moved = _moving(length)
    while len(sums) > 1:
        sums = _applied(moved, sums[::2]) ^ sums[1::2]
        moved = _applied(moved, moved)
    return sums[0]


def _moving(length: int) -> np.ndarray:
    """The matrix (32,) that moves a checksum past some zero bytes, column by column."""
    columns = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = _table()[columns & _BYTE] ^ columns >> np.uint32(8)  # past one byte
    moved = columns
    while length:
        if length & 1:
            moved = _applied(power, moved)
        power = _applied(power, power)
        length >>= 1
    return moved


def _applied(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    result = np.zeros_like(values)
    for bit in range(32):
        result ^= matrix[bit] * (values >> np.uint32(bit) & np.uint32(1))
    return result


def masked(value: int) -> int:
    """Mask a checksum as LevelDB and TensorFlow write it."""
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
