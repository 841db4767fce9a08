"""Fuzzing of every reader: a file is read or refused in one line that names it, and nothing else happens.

The same examples on every machine. `python -m tests.hostile.fuzz --minutes 10` looks further.
"""

import contextlib
import io
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.hostile import fuzz, mutate, readers
from tests.hostile.readers import CORPUS, READERS, Names, Reader, attempt

SLOW = {
    "manifest-evaluated",
    "predictions-evaluated",
    "dgl-npz",
    "dgl-safetensors",
    "dgl-index",
    "dgl-single-file",
    "dgl-data",
    "dgl-state",
}
"""Readers of some 20 ms a file; the others take 1."""
quiet = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))

FORMS = {
    "cub-images": "{number} {path}", "cub-image_class_labels": "{number} {label}", "cub-train_test_split": "{number} {label}",
    "cub-bounding_boxes": "{number} {a} {b} {c} {d}", "cub-classes": "{number} {path}", "folder-boxes": "{path},{a},{b},{c},{d}",
    "wsoleval-image_ids": "{path}", "wsoleval-class_labels": "{path},{label}", "wsoleval-image_sizes": "{path},{a},{b}",
    "wsoleval-localization": "{path},{a},{b},{c},{d}", "list-bas": "{path};{label}", "list-bas-boxes": "{a} {b} {c} {d} 60 80",
    "list-spol": "{path},{label},{a} {b} {c} {d}", "list-dgl": "{path}\t{label}\t{a}\t{b}\t{c}\t{d}", "ilsvrc-synsets": "{path} {label}",
    "ilsvrc-solution": "{path},{label} {a} {b} {c} {d}", "grcam-classes": "{path},{label},{label},{number}",
    "grcam-boxes": "{path},{a}, {b}, {c}, {d}",
}  # fmt: skip
"""A line of each text file."""
NUMBERS = st.one_of(
    st.integers(-3, 300).map(str), st.integers().map(str), st.floats().map(str), st.text(max_size=5),
    st.sampled_from(["", "nan", "-inf", "1e999", "1_0", "٣", "0x1", "1e-400", "1,5", "--1"]),
)  # fmt: skip
PATHS = st.one_of(
    st.sampled_from(["001.Red_Bird/bird_1.png", "002.Blue_Bird/bird_2.png", "ILSVRC2012_val_00000001", "n01440764", "..", "a/../..", "/", "."]),
    st.text(st.characters(codec="utf-8"), max_size=12), st.from_regex(r"[\w./\\ ,;=<>'\"-]{0,20}", fullmatch=True),
)  # fmt: skip
LINES = st.lists(
    st.fixed_dictionaries({"path": PATHS, "label": NUMBERS, "number": NUMBERS, **dict.fromkeys("abcd", NUMBERS)}),
    max_size=4,
)
HEADERS = {
    "map": [b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': ("],
    "image-plain.jpg": [b"\xff\xd8\xff\xe0\x00\x10JFIF\0", b"\xff\xd8\xff\xee\x00\x0eAdobe", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*",
                        b"BM", b"P6 ", b"P4 ", b"Pf ", b"P7\n", b"RIFF\x24\0\0\0WEBPVP8L", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0 ftypavif", b"%!PS-Adobe"],
    "torch-zip": [b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."],
    "verdicts-npy": [b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x36\x00{'descr': '|O', 'fortran_order': False, 'shape': (), } \n\x80\x03"],
    "dgl-npz": [b"PK\x03\x04", b"PK\x05\x06"], "dgl-safetensors": [b"\x02\0\0\0\0\0\0\0{}", b"\x10\0\0\0\0\0\0\0{"], "dgl-index": [b"", b"\0"],
    "ilsvrc-xml": [b"<annotation>", b"<?xml version='1.0' encoding='", b"\xff\xfe<\0"],
}  # fmt: skip
"""How a binary file begins."""


def outcome_of(reader: Reader, world, content: bytes) -> readers.Outcome:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return attempt(reader, world, content)


def allowed(reader: Reader, world, content: bytes) -> None:
    outcome = outcome_of(reader, world, content)
    assert outcome.allowed, f"{outcome.kind}: {outcome.message}\n{content[:500]!r}"


def by_name(names) -> list[str]:
    return [name for name in names if name in readers.BY_NAME]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_the_good_file_is_read(world, reader):
    assert outcome_of(reader, world, (world / reader.place).read_bytes()).kind == "read"


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_changes_of_good_files(world, reader):
    @settings(quiet, max_examples=8 if reader.name in SLOW else 40)
    @given(seed=st.integers(0, 2**32))
    @example(seed=0)
    def search(seed: int) -> None:
        content, outcome = fuzz.once(reader, world, seed)
        assert outcome.allowed, f"{outcome.kind}: {outcome.message}\n{content[:500]!r}"

    search()


@pytest.mark.parametrize("name", by_name(FORMS))
def test_lines_of_anything(world, name):
    reader = readers.BY_NAME[name]

    @settings(quiet, max_examples=60)
    @given(rows=LINES, ending=st.sampled_from(["\n", "\r\n", "\r", ""]))
    def search(rows: list[dict[str, str]], ending: str) -> None:
        allowed(
            reader, world, "".join(FORMS[name].format(**row) + ending for row in rows).encode("utf-8", "surrogatepass")
        )

    search()


@pytest.mark.parametrize("name", by_name(HEADERS))
def test_headers_and_then_anything(world, name):
    reader = readers.BY_NAME[name]

    @settings(quiet, max_examples=20 if name in SLOW else 80)
    @given(header=st.sampled_from(HEADERS[name]), rest=st.binary(max_size=200))
    def search(header: bytes, rest: bytes) -> None:
        allowed(reader, world, header + rest)

    search()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus(world, path):
    if path.parent.name not in readers.BY_NAME:
        assert path.parent.name.startswith(("torch", "verdicts", "dgl", "grcam"))  # its framework is not here
        return
    reader = readers.BY_NAME[path.parent.name]
    outcome = outcome_of(reader, world, path.read_bytes())
    assert outcome.kind == "read" if path.name.startswith("good") else outcome.allowed, outcome


def test_faults_are_seen(world):
    """What the tests above would say of a reader that crashes, hangs, or complains of nothing in particular."""
    from common.system.errors import UserError

    def complain(message, **where):
        def read(world):
            raise UserError(message, **where)

        return read

    def crash(world):
        raise KeyError("x")

    path = world / "spol.txt"
    for read, kind in [
        (crash, "crashed"), (complain("it is bad"), "vague"), (complain("bad", where=path), "vague"),
        (complain("bad", where=path, line=3), "refused"), (lambda world: None, "read"),
    ]:  # fmt: skip
        assert attempt(Reader("x", "spol.txt", read), world, b"").kind == kind
    assert (
        attempt(Reader("x", "map.npy", complain("bad", where=world / "map.npy"), Names.FILE), world, b"").kind
        == "refused"
    )
    assert path.read_bytes().count(b"\n") == 6  # the good file is back in its place


def test_seeds_make_the_same_files_everywhere(world):
    content = (world / "spol.txt").read_bytes()
    made = [mutate.mutated(content, seed) for seed in range(200)]
    assert made == [mutate.mutated(content, seed) for seed in range(200)]
    assert len(set(made)) > 150
    assert np.mean([change == content for change in made]) < 0.05


def test_the_command_prints_counts_and_finds_nothing(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fuzz", "--minutes", "0.01", "--seed", "7", "--reader", "list-spol", "map"])
    assert fuzz.main() == 0
    said = capsys.readouterr().out
    assert "list-spol: " in said
    assert said.endswith("files, 0 distinct faults\n")
