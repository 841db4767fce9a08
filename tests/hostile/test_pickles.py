"""Pickles that run no code, and would end Python or keep it for hours all the same."""

import io
import pickle

import pytest
import torch

from common.pytorch import checkpoints, pickles
from common.system.errors import UserError
from spol import verdicts
from tests.hostile.test_maps import lying
from tests.hostile.test_memory import archive

DEEP = 200_000


def nested(opening: bytes, each: bytes, depth: int = DEEP) -> bytes:
    """A pickle of containers in each other, as a dictionary's key."""
    return b"\x80\x02}" + opening + each * depth + b"\x88s."


def numbers(count: int) -> bytes:
    """A dictionary with keys of one hash: multiples of 2^61 - 1."""
    rows = b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"\x88" for k in range(count))
    return b"\x80\x02}(" + rows + b"u."


HOSTILE = {
    "tuples": nested(b")", b"\x85", 1_000_000),
    "pairs": nested(b")", b"\x88\x86"),
    "marked tuples": b"\x80\x02}" + b"(" * DEEP + b"t" * DEEP + b"\x88s.",
    "frozen sets": b"\x80\x04}" + b"(" * DEEP + b"\x91" * DEEP + b"\x88s.",
    "lists": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "memoized": b"\x80\x02})" + b"\x85q\x000h\x00" * 300_000 + b"\x88s.",
    "numbers": numbers(100_000),
    "numbers one by one": b"\x80\x02}" + b"".join(b"J" + k.to_bytes(4, "little") + b"\x88s" for k in range(20_000)) + b".",
    "numbers in a set": b"\x80\x04\x8f(" + b"".join(b"J" + k.to_bytes(4, "little") for k in range(20_000)) + b"\x90.",
    "numbers in a list": b"\x80\x02](" + (b"\x8a\x0b" + (2**61 - 1).to_bytes(11, "little")) * 20_000 + b"e.",
}  # fmt: skip
DAMAGED = [
    b"",
    b".",
    b"\x80\x02",
    b"a.",
    b"\x80\x02(u.",
    b"t.",
    b"h\x05.",
    b"\x80\x02]",
    b"0.",
    b"2.",
    b"q\x00.",
    b"\xff",
    b"s.",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_end_python_or_keep_it_is_refused(name):
    with pytest.raises(ValueError, match="nested too deeply|too many keys"):
        pickles.check(HOSTILE[name])


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_pickle_is_refused(content):
    with pytest.raises(ValueError, match="."):
        pickles.check(content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ordinary_pickles_pass(protocol):
    shared = [1, 2]
    values = [
        {f"images/{n}.jpg": [True, n % 2 == 0] for n in range(20_000)}, {n: {"step": 1.5} for n in range(9_000)},
        {"a": (1, (2, (3,))), "b": shared, "c": shared, b"d": None, "e": {1, 2}, "f": frozenset((1, "a"))}, 2**70, [[]] * 9,
    ]  # fmt: skip
    for value in values:
        pickles.check(pickle.dumps(value, protocol))


def test_a_file_is_read_to_its_pickles_end():
    file = io.BytesIO(pickle.dumps([1]) + pickle.dumps("two") + b"rest")
    pickles.check(file)
    pickles.check(file)
    assert file.read() == b"rest"


@pytest.mark.parametrize("name", ["tuples", "numbers"])
def test_the_readers_look_first(tmp_path, name):
    """The tuples would end this process."""
    content = HOSTILE[name]
    (tmp_path / "a.npy").write_bytes(lying("'|O'", "()", content))
    with pytest.raises(UserError, match=r"a\.npy: .*(nested too deeply|too many keys)"):
        verdicts.read_npy(tmp_path / "a.npy")
    for place in ("archive/data.pkl", "archive/DATA.PKL"):  # PyTorch's own reader of zips does not tell them apart
        (tmp_path / "a.pth").write_bytes(with_pickle(content, place))
        with pytest.raises(UserError, match=r"a\.pth: not a readable checkpoint \(it (is nested|has too many)"):
            checkpoints.read(tmp_path / "a.pth")
    for before in range(5):  # an older file is five pickles
        (tmp_path / "a.pth").write_bytes(older()[before] + content)
        with pytest.raises(UserError, match=r"a\.pth: not a readable checkpoint \(it (is nested|has too many)"):
            checkpoints.read(tmp_path / "a.pth")


def with_pickle(content: bytes, place: str) -> bytes:
    return archive(("archive/first/data.pkl", pickle.dumps({}, 2)), ("archive/version", b"3\n"), (place, content))


def older() -> list[bytes]:
    """The first zero to four pickles of a file as PyTorch wrote it before 1.6."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    content, ends = buffer.getvalue(), [0]
    buffer.seek(0)
    for _ in range(4):
        pickles.check(buffer)
        ends.append(buffer.tell())
    return [content[:end] for end in ends]


def test_checkpoints_of_both_forms_are_read(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for zipped in (True, False):
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert checkpoints.read(tmp_path / "a.pth").keys() == content.keys()
