"""Files made from good ones: the changes that a hostile or damaged file is likely to show."""

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

TOKENS = (
    b"", b"\0", b"\x1b[2J\x1b]0;x\x07", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xb2\x80", b"\r", b"\r\n", b"\n\n",
    b"..", b"../../../etc/passwd", b"/etc/passwd", b"a\\b", b"C:/x", b".", b"./", b"//", b"-1", b"0", b"1e400", b"1e300",
    b"-1e300", b"nan", b"inf", b"-inf", b"999999999999", b"9" * 400, b"1_0", b"+1", b"0x10", b"\xd9\xa3", b'"', b'""', b"'",
    b",", b";", b"\t", b" ", b"\\\\", b"=1+1", b"<script>", b"</script>", b"a" * 300, b"x," * 2000, b"[" * 3000, b"{" * 3000,
    b"null", b"true", b"NaN", b"Infinity", b"[]", b"{}", b'"\\ud800"', b"1" + b"0" * 30, b"<!DOCTYPE a>", b"<!ENTITY a 'b'>", b"&a;",
    b"<object>", b"</object>", b"%s%n", b"{0}",
)  # fmt: skip
VALUES = (None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "..", "\ud800", "\x1b[2J", "a\nb", [], {}, [[]],
          [None], {"a": 1}, "x" * 400, [10**400], 10**400)  # fmt: skip

Mutation = Callable[[bytes, random.Random], bytes]


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice((0, 1, 1, 2, 4, 8, 40)))


def flip(content: bytes, rng: random.Random) -> bytes:
    """A few bytes become others."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: rng.randrange(len(content) + 1)]


def drop(content: bytes, rng: random.Random) -> bytes:
    """A piece in the middle is missing."""
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def double(content: bytes, rng: random.Random) -> bytes:
    """A line, or the whole, stands twice."""
    rows = content.splitlines(keepends=True)
    if len(rows) < 2 or rng.random() < 0.2:
        return content + content
    row = rng.randrange(len(rows))
    return b"".join([*rows[:row], rows[row], *rows[row:]])


def insert(content: bytes, rng: random.Random) -> bytes:
    """Something odd stands in place of a piece."""
    start, end = _span(content, rng)
    return content[:start] + rng.choice(TOKENS) + content[end:]


def replace_word(content: bytes, rng: random.Random) -> bytes:
    """Something odd stands in place of a word or number."""
    words = list(re.finditer(rb"[\w.\-/]+", content))
    if not words:
        return insert(content, rng)
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(TOKENS) + content[word.end() :]


def number(content: bytes, rng: random.Random) -> bytes:
    """Four or eight bytes become an extreme number, in either order."""
    if len(content) < 8:
        return flip(content, rng)
    at = rng.randrange(len(content) - 7)
    form = rng.choice(("<I", ">I", "<Q", "<H", ">H"))
    size = struct.calcsize(form)
    value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 30_000))
    return content[:at] + struct.pack(form, value) + content[at + size :]


def json_value(content: bytes, rng: random.Random) -> bytes:
    """One value somewhere in a JSON document, or in a line of one, becomes another or is missing."""
    rows = content.splitlines()
    whole = not rows or not rows[0].endswith(b"}")
    row = 0 if whole else rng.randrange(len(rows))
    try:
        document = json.loads(content if whole else rows[row])
    except (ValueError, RecursionError):
        return insert(content, rng)
    holders = list(_holders(document))
    if not holders:
        return insert(content, rng)
    holder, key = rng.choice(holders)
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(VALUES)
    changed = json.dumps(document).encode()
    return changed if whole else b"\n".join([*rows[:row], changed, *rows[row + 1 :], b""])


def _holders(value: Any):
    """(container, key) of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _holders(inner)


def png_chunk(content: bytes, rng: random.Random) -> bytes:
    """A number in a PNG's header changes, and its checksum with it."""
    if content[12:16] != b"IHDR" or len(content) < 33:
        return number(content, rng)
    header = bytearray(content[16:29])
    header[rng.randrange(13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 127, 255))
    return content[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


ANY: tuple[Mutation, ...] = (flip, cut, drop, double, insert, number)
TEXT: tuple[Mutation, ...] = (replace_word, replace_word, replace_word, insert, insert, flip, cut, drop, double)
JSON: tuple[Mutation, ...] = (json_value, json_value, json_value, json_value, *TEXT)
PNG: tuple[Mutation, ...] = (png_chunk, *ANY)


def mutated(content: bytes, seed: int) -> bytes:
    """One to three changes that the seed decides, of the kinds that suit what the file holds."""
    rng = random.Random(seed)  # noqa: S311, nothing secret
    kinds = ANY
    if content[:1] == b"{":
        kinds = JSON
    elif content[:4] == b"\x89PNG":
        kinds = PNG
    elif b"\0" not in content:
        kinds = TEXT
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(kinds)(content, rng)
    return content
