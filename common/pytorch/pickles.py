"""Inspection of pickles without building what they hold: to refuse one that would end Python, or keep it for hours.

Unpicklers that run no code still hash the keys of dictionaries. Tuples in tuples, a million deep, overflow C's stack
there, and a hundred thousand numbers of one hash are compared with each other. Nobody can foretell a text's hash.
"""

import pickle
import pickletools
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

DEEPEST = 200
"""Containers in each other; a checkpoint with an optimizer's state has some ten."""
MOST_KEYS = 10_000
"""Keys that are no text, and numbers of more than 60 bits; an optimizer's state has a key for each parameter."""

_TEXT = -1
_TEXTS = {
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
"""Instructions that put objects into the one below them."""


def check(content: bytes | BinaryIO) -> None:
    """Refuse a pickle that is nested too deeply, or has too many keys with hashes that can be foretold.

    Args:
        content: the pickle; of a file as much is read as belongs to it.

    Raises:
        ValueError: one of the two, or no pickle at all.
    """
    stack: list[int] = []  # how deep each object is, or that it is text; since the last mark
    marked: list[list[int]] = []
    memo: dict[int, int] = {}
    keys = 0
    for opcode, argument, _ in _genops(content):
        name = opcode.name
        try:
            if name == "MARK":
                marked.append(stack)
                stack = []
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
                stack.append(stack[-1] if name == "DUP" else memo[argument])
            else:
                above: list[int] = []
                if pickletools.markobject in opcode.stack_before:
                    above, stack = stack, marked.pop()
                taken = _taken(stack, opcode) + above
                keys += _weak_keys(name, taken) + (type(argument) is int and abs(argument) >> 60 > 0)
                stack += [_depth(name, taken)] * len(opcode.stack_after)
        except LookupError as error:
            raise ValueError(f"a damaged pickle, at {name}") from error
        if keys > MOST_KEYS:
            raise ValueError("it has too many keys that are no text")
        if stack and stack[-1] > DEEPEST:
            raise ValueError("it is nested too deeply")


def _taken(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take what an instruction uses off the stack, in order, but for what lies above a mark."""
    kinds = opcode.stack_before
    count = kinds.index(pickletools.markobject) if pickletools.markobject in kinds else len(kinds)
    if count > len(stack):
        raise LookupError
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _weak_keys(name: str, taken: list[int]) -> int:
    """Number of the keys that an instruction adds which are no text."""
    if name in ("SETITEM", "SETITEMS"):
        keys = taken[1::2]
    elif name in ("ADDITEMS", "FROZENSET"):
        keys = taken[name == "ADDITEMS" :]
    else:
        keys = taken[::2] if name == "DICT" else []
    return sum(key != _TEXT for key in keys)


def _depth(name: str, taken: list[int]) -> int:
    if name in _TEXTS:
        return _TEXT
    if name in _INTO:
        return max(taken[0], 1 + max(taken[1:], default=-1))
    return 1 + max(taken, default=-1)


def global_names(content: bytes | BinaryIO) -> list[str]:
    """Names of the classes and functions that a pickle asks for, each once, in its order."""
    found: dict[str, None] = {}
    texts: list[str] = []
    memo: dict[int, str] = {}
    memoized = 0
    last: Any = None
    for opcode, argument, _ in _genops(content):
        if opcode.name == "GLOBAL":
            found[argument.replace(" ", ".", 1)] = None
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            found[".".join(texts[-2:])] = None
        if opcode.name in _TEXTS:
            texts.append(argument)
        elif opcode.name in ("BINGET", "LONG_BINGET") and argument in memo:
            texts.append(memo[argument])
        elif opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            if last in _TEXTS:
                memo[memoized if opcode.name == "MEMOIZE" else argument] = texts[-1]
            memoized += 1
        last = opcode.name
    return list(found)


def as_protocol_2(content: bytes) -> bytes:
    """A pickle of protocol 3 to 5 in the instructions of protocol 2, which torch's reader of plain values knows.

    Nothing is built. Texts stand where they are used instead of in the memo, so that a class's two names can become
    one instruction. What has no counterpart is taken over as it is, for the reader to refuse.

    Raises:
        ValueError: no pickle, or a class named by something else than two texts.
    """
    made: list[bytes] = []
    texts: dict[int, str] = {}
    memoized = 0
    standing: list[str | None] = []  # for each instruction kept the text that it pushes
    for opcode, argument, start, end in _instructions(content):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            number = memoized if name == "MEMOIZE" else argument
            memoized += 1
            if standing and standing[-1] is not None:
                texts[number] = standing[-1]
                continue
            texts.pop(number, None)
            made.append(pickle.LONG_BINPUT + struct.pack("<I", number))
        elif name in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"):
            made.append(_text(argument))
            standing.append(argument)
            continue
        elif name in ("BINGET", "LONG_BINGET") and argument in texts:
            made.append(_text(texts[argument]))
            standing.append(texts[argument])
            continue
        elif name == "STACK_GLOBAL":
            names = [text for text in standing[-2:] if text is not None]
            if len(names) < 2 or any("\n" in text for text in names):
                raise ValueError("a class that is not named by two texts")
            made[-2:] = [pickle.GLOBAL + "\n".join([*names, ""]).encode()]
            del standing[-2:]
        else:
            made.append(content[start:end])
        standing.append(None)
    return b"\x80\x02" + b"".join(made)


def _instructions(content: bytes) -> list[tuple[pickletools.OpcodeInfo, Any, int, int]]:
    """Opcode, argument, first byte and the byte behind, of each instruction."""
    found = list(_genops(content))
    ends = [start for _, _, start in found[1:]] + [len(content)]
    return [(*instruction, end) for instruction, end in zip(found, ends, strict=True)]


def _genops(content: bytes | BinaryIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """`pickletools.genops`, whose argument is of the instruction's own kind."""
    instructions: Iterator[Any] = pickletools.genops(content)
    return instructions


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded
