"""DGL's checkpoints and records, and the files between GRCAM's steps, as a hostile or damaged file may be."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from tensorflow.core.util.saved_tensor_slice_pb2 import SavedTensorSlices

from common.system.errors import UserError
from common.tensorflow_files import checkpoint as checkpoint_files
from common.tensorflow_files.bundle import read_index
from dgl_tf import records, weights
from tests.hostile import bundle, readers
from tests.hostile.payloads import refused


def opened(path):
    checkpoint = weights.open_checkpoint(path)
    return {name: checkpoint.read(name) for name in checkpoint.shapes}


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def lying(shape: str) -> bytes:
    """An array that says to be of another shape than its four numbers."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(16)


def test_no_archive_runs_code(tmp_path, payload):
    path = tmp_path / "final.npz"
    for name, thing in payload.objects().items():
        holder = np.empty((), dtype=object)
        holder[()] = thing
        path.write_bytes(zipped([("linear/W.npy", npy(holder))]))
        refused(lambda: opened(path), path)
        assert not payload.marker.exists(), name
    for name, content in payload.pickles().items():
        for ending in (".npy", ".npz", ".pkl", ".pickle", ".pth", ".pt", ".safetensors"):
            path = tmp_path / f"a{ending}"
            path.write_bytes(content)
            refused(lambda path=path: opened(path), path)
            assert not payload.marker.exists(), (name, ending)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("members", "message"), [
    ([("a.npy", npy(np.zeros(3))), ("a.npy", npy(np.ones(3)))], "stands there twice"),
    ([("readme.txt", b"hello")], "readme.txt is no array"),
    ([("a.npy", bytes(128 * 2**20))], "unpacks to 134,"),
    ([("a.npy", lying("(1000000000000,)"))], "final.npz"),
    ([("a.npy", lying("(-1,)"))], "final.npz"),
    ([("a.npy", lying("((((((1"))], "final.npz"),
    ([("a.npy", lying("(5,)"))], "final.npz"),
    ([("a.npy", b"\x93NUMPY\x09\x00")], "final.npz"),
])  # fmt: skip
def test_archives_that_lie(tmp_path, members, message):
    path = tmp_path / "final.npz"
    path.write_bytes(zipped(members))
    refused(lambda: opened(path), path, message)


def test_names_of_members_are_no_paths(tmp_path):
    path = tmp_path / "folder" / "final.npz"
    path.parent.mkdir()
    path.write_bytes(zipped([("../../evil.npy", npy(np.zeros(3, np.float32)))]))
    assert list(opened(path)) == ["../../evil"]
    assert {found.name for found in tmp_path.rglob("*")} == {"folder", "final.npz"}


def safetensors(header: dict | bytes, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(4,), offsets=(0, 16), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("content", [
    safetensors({}, b"", 2**63), safetensors({}, b"", 2**40), safetensors({"a": entry(offsets=(0, 2**40))}),
    safetensors({"a": entry((2**40,))}), safetensors({"a": entry((2**32, 2**32))}), safetensors({"a": entry(offsets=(16, 0))}),
    safetensors({"a": entry(), "b": entry()}), safetensors({"a": entry((2,), (0, 8)), "b": entry((2,), (4, 12))}),
    safetensors(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)), safetensors({"a": entry(dtype="F99")}),
    safetensors({"a": entry((-4,))}), safetensors({"a": None}), safetensors(b"[" * 10_000), safetensors(b"\xff\xfe"),
    safetensors(b'"\\ud800"'), b"", b"\0" * 7,
], ids=range(17))  # fmt: skip
def test_safetensors_that_lie(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(lambda: opened(path), path)


def test_a_good_one_is_read(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors({"a": entry()}))
    assert opened(tmp_path / "a.safetensors")["a"].tolist() == [0, 0, 0, 0]


def match(array):
    """One variable of two numbers, to be taken from a checkpoint."""
    import tensorflow.compat.v1 as tf

    checkpoint = checkpoint_files._from_arrays(None, "a.npz", {"w": array})
    with tf.Graph().as_default():
        return weights.match({"w": tf.get_variable("w", (2,))}, checkpoint)


@pytest.mark.parametrize("array", [np.array(["1", "2"]), np.array([1, 2j]), np.array([np.nan, 0]), np.array([np.inf, 0]),
                                   np.array([b"a", b"b"]), np.zeros(2, "M8[s]")])  # fmt: skip
def test_values_that_are_no_numbers(array):
    with pytest.raises(UserError, match=r"a\.npz: w holds other things than finite numbers"):
        match(array)


def test_values_of_other_types_are_taken():
    for dtype in (np.float16, np.float64, np.int32, ">f4"):
        values, missing = match(np.array([1, 2], dtype))
        assert (values["w"].dtype, values["w"].tolist(), missing) == (np.float32, [1, 2], [])


@pytest.mark.parametrize("shape", [(), (3, 0), (3, 10**9)])
def test_heads_of_no_or_too_many_classes(shape):
    checkpoint = weights.Checkpoint(None, "a", {"linear/W": shape}, lambda name: np.zeros(1))
    with pytest.raises(UserError, match="an output for each class"):
        checkpoint.head("vgg")


# --------------------------------------------------------------------------------------------- TensorFlow's own format


@pytest.mark.parametrize("part", ["index", "data", "single-file"])
def test_a_cut_checkpoint_of_tensorflow(world, part):
    reader = readers.BY_NAME[f"dgl-{part}"]
    content = (world / reader.place).read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        outcome = readers.attempt(reader, world, content[:length])
        assert outcome.kind == "refused", (length, outcome)


@pytest.mark.parametrize("state", [b"", b"\xff", b'model_checkpoint_path: "../../etc/passwd"', b'model_checkpoint_path: ".."',
                                   b'model_checkpoint_path: ""', b"model_checkpoint_path: 5", b"\0" * 100])  # fmt: skip
def test_a_state_file_that_leads_elsewhere(world, state):
    outcome = readers.attempt(readers.BY_NAME["dgl-state"], world, state)
    assert outcome.kind == "refused", outcome


def test_a_state_file_leads_to_its_own_folder_only(world, tmp_path):
    """A checkpoint elsewhere is not opened, though the file names it."""
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "checkpoint").write_text(f'model_checkpoint_path: "{world}/tf/model-1"')
    refused(lambda: opened(tmp_path / "moved"), tmp_path / "moved")


@pytest.mark.parametrize("content", ["[]", "5", '{"method": "dgl"}', '{"method": "dgl", "architecture": "vgg", "class_names": 5}',
                                     "[" * 100_000, '{"method": "\\ud800"}'])  # fmt: skip
def test_records_of_trainings(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    refused(lambda: records.read(tmp_path), tmp_path / "training.json")


# --------------------------------------------------------------------------- an index whose checksums are right


def rows(**arrays: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"", bundle.header()), *((name.encode(), message) for name, message in arrays.items())]


GOOD = rows(W=bundle.entry())
TEXT, RESOURCE, VARIANT, REFERENCE = 7, 20, 21, 101
FORGED = {
    # Each of these ends the process when TensorFlow reads it.
    "a negative length": bundle.index({"W": bundle.entry((-4, 2))}),
    "too many numbers": bundle.index({"W": bundle.entry((2**40, 2**40))}),
    "too many numbers, and none": bundle.index({"W": bundle.entry((2**62, 2**62, 0), 0)}),
    "300 dimensions": bundle.index({"W": bundle.entry((1,) * 300, 4)}),
    "a terabyte": bundle.index({"W": bundle.entry((2**38,), 2**40)}),
    "no type": bundle.index({"W": bundle.entry(dtype=0)}),
    "an unknown type": bundle.index({"W": bundle.entry(dtype=999)}),
    "a reference": bundle.index({"W": bundle.entry(dtype=REFERENCE)}),
    "equal slices": bundle.index({"W": bundle.entry(slices=[[(0, -1), (0, -1)]] * 2)}),
    "no message": bundle.index({"W": b"\xff" * 30}),
    # The others are read as something else, take memory, or are refused by TensorFlow at length.
    "8 gigabytes": bundle.index({"W": bundle.entry((2**31,), 2**33)}),
    "a size": bundle.index({"W": bundle.entry(size=2**60)}),
    "a negative size": bundle.index({"W": bundle.entry(size=-1)}),
    "an offset": bundle.index({"W": bundle.entry(offset=2**62)}),
    "a negative offset": bundle.index({"W": bundle.entry(offset=-8)}),
    "an offset that overflows": bundle.index({"W": bundle.entry(offset=2**63 - 8)}),
    "no rank": bundle.index({"W": bundle.entry((), 4, unknown_rank=True)}),
    "a slice": bundle.index({"W": bundle.entry(slices=[[(-5, 2**62)]])}),
    "another file": bundle.index({"W": bundle.entry(shard=5)}),
    "a file before the first": bundle.index({"W": bundle.entry(shard=-1)}),
    "two files": bundle.index({"W": bundle.entry()}, bundle.header(2)),
    "two billion files": bundle.index({"W": bundle.entry()}, bundle.header(2**31 - 1)),
    "no files": bundle.index({"W": bundle.entry()}, bundle.header(0)),
    "text": bundle.index({"W": bundle.entry((2**20,), dtype=TEXT)}),
    "text of any length": bundle.index({"W": bundle.entry((1,), dtype=TEXT)}),
    "a resource": bundle.index({"W": bundle.entry(dtype=RESOURCE)}),
    "a variant": bundle.index({"W": bundle.entry(dtype=VARIANT)}),
    "another checksum": bundle.index({"W": bundle.entry(crc=5)}),
    "no header": bundle.table(bundle.block(GOOD[1:])),
    "a header of something": bundle.index({"W": bundle.entry()}, b"\xff" * 30),
    "a long message": bundle.index({"W": bundle.entry((1,) * 60_000, 4)}),
    "a name twice": bundle.table(bundle.block([*GOOD, GOOD[1]])),
    "names in no order": bundle.table(bundle.block([GOOD[0], (b"z", GOOD[1][1]), GOOD[1]])),
    "a name that is no text": bundle.table(bundle.block([GOOD[0], (b"\xff\xfe", GOOD[1][1])])),
    "a long name": bundle.index({"W" * 2000: bundle.entry()}),
    "a footer that leads away": bundle.table(bundle.block(GOOD), footer=(2**40, 40)),
    "a footer of a terabyte": bundle.table(bundle.block(GOOD), footer=(0, 2**40)),
    "a footer of all memory": bundle.table(bundle.block(GOOD), footer=(0, 2**64 - 6)),
    "a block of a terabyte": bundle.table(bundle.block(GOOD), points_to=(0, 2**40)),
    "a block before the file": bundle.table(bundle.block(GOOD), points_to=(2**64 - 1, 2**64 - 1)),
    "compressed gigabytes": bundle.table(bundle.varint(2**32 - 1) + b"\xf0abc", compression=1),
    "another compression": bundle.table(bundle.block(GOOD), compression=9),
    "a key that shares too much": bundle.table(bundle.block(GOOD, lie=(100, 1, 40))),
    "a key that leaves its block": bundle.table(bundle.block(GOOD, lie=(0, 2**31, 40))),
    "a value that leaves its block": bundle.table(bundle.block(GOOD, lie=(0, 1, 2**32 - 1))),
    "beginnings that are none": bundle.table(bundle.block(GOOD, restarts=(0, 5))),
    "beginnings elsewhere": bundle.table(bundle.block(GOOD, restarts=(2**31,) * 5)),
    "no beginnings": bundle.table(bundle.block(GOOD)[:-8] + bytes(4)),
    "two billion beginnings": bundle.table(bundle.block(GOOD)[:-4] + b"\xff\xff\xff\x7f"),
    "a short block": bundle.table(b"\0"),
    "an empty block": bundle.table(b""),
    "an empty file": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_an_index_that_is_forged(tmp_path, name):
    (tmp_path / "model.index").write_bytes(FORGED[name])
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(32))
    refused(lambda: opened(tmp_path / "model"), tmp_path / "model")


def test_an_index_that_is_not_forged(tmp_path):
    """So it is each lie above that is refused."""
    (tmp_path / "model.index").write_bytes(
        bundle.index({"W": bundle.entry(), "n": bundle.entry((), 4, 4, data=bytes(4))})
    )
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(32))
    found = opened(tmp_path / "model")
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "W": ((4, 2), "float32"),
        "n": ((), "float32"),
    }


def test_an_index_says_what_tensorflow_says(tmp_path):
    """Of one in several blocks, whose names share their beginnings, and of all kinds of numbers."""
    import tensorflow.compat.v1 as tf

    kinds = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool", "uint16"]
    with tf.Graph().as_default(), tf.Session() as session:
        for number in range(600):
            shape = [(), (3,), (2, 5), (0, 4)][number % 4]
            tf.get_variable(
                f"group{number // 40}/block{number % 40}/a/rather/long/name",
                initializer=np.ones(shape, kinds[number % 9]),
            )
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model"), write_meta_graph=False)
    assert (tmp_path / "model.index").stat().st_size > 3 * 4096
    theirs = tf.train.NewCheckpointReader(prefix).get_variable_to_shape_map()
    found = read_index(tmp_path / "model")
    assert {name: list(array.shape) for name, array in found.items()} == theirs
    assert all(array.is_numeric for array in found.values())
    assert all((array == 1).all() for array in opened(tmp_path / "model").values())


def test_many_arrays_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr("common.tensorflow_files.bundle.MOST_ARRAYS", 1)
    (tmp_path / "model.index").write_bytes(bundle.index({"W": bundle.entry(), "n": bundle.entry()}))
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(32))
    refused(lambda: opened(tmp_path / "model"), tmp_path / "model", "more than 1 arrays")


def test_blocks_that_overlap(tmp_path):
    """A block that is led to a million times would be read as often."""
    empty = bundle.trailed(bundle.block([], restarts=(0,) * 500))
    leads = bundle.block([(str(number).encode(), bundle.handle(0, len(empty) - 5)) for number in range(100)])
    places = bundle.handle(0, 0) + bundle.handle(len(empty), len(leads))
    content = empty + bundle.trailed(leads) + places.ljust(40, b"\0") + struct.pack("<Q", bundle.MAGIC)
    (tmp_path / "model.index").write_bytes(content)
    refused(lambda: opened(tmp_path / "model"), tmp_path / "model", "overlap")


# ----------------------------------------------------------------------------------- a checkpoint of one file


def single(*arrays: tuple[str, tuple[int, ...], int], keys: tuple[str, ...] = ()) -> bytes:
    """A checkpoint of one file of float32 ones: names, shapes, and how many numbers; under other names' keys."""
    head, found = SavedTensorSlices(), []
    for number, (name, shape, count) in enumerate(arrays):
        meta = head.meta.tensor.add(name=name, type=1)
        saved = SavedTensorSlices()
        saved.data.name = name
        saved.data.data.float_val.extend([1.0] * count)
        for length in shape:
            meta.shape.dim.add(size=length)
        for each in (meta.slice.add(), saved.data.slice):
            for _ in shape:
                each.extent.add()
        key = keys[number] if keys else name
        dimensions = b"\x01" + bytes([len(shape)]) if shape else b"\0"
        found.append(
            (b"\0" + key.encode() + b"\0\1" + dimensions + b"\x80\x7f" * len(shape), saved.SerializeToString())
        )
    return bundle.table(bundle.block([(b"", head.SerializeToString()), *sorted(found)]))


def test_a_single_file_that_is_not_forged(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(single(("V", (3,), 3), ("W", (4, 2), 8), ("n", (), 1), ("none", (0, 4), 0)))
    found = opened(tmp_path / "a.ckpt")
    assert {name: array.shape for name, array in found.items()} == {"V": (3,), "W": (4, 2), "n": (), "none": (0, 4)}
    assert all((array == 1).all() for array in found.values())


@pytest.mark.parametrize("content", [
    single(("W", (2**62, 2**62, 0), 0)),
    single(("V", (100_000,), 100_000), ("W", (1,), 1), keys=("W", "V")),  # lets TensorFlow read beyond the numbers
    single(("V", (3,), 3), ("W", (3,), 3), keys=("V", "X")),
    single(("W", (-1,), 0)), single(("W", (4,), 3)),
], ids=range(5))  # fmt: skip
def test_a_single_file_that_is_forged(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    refused(lambda: opened(tmp_path / "a.ckpt"), tmp_path / "a.ckpt", "not a readable TensorFlow checkpoint")


def test_an_index_beside_a_single_file_is_looked_at_too(tmp_path):
    """TensorFlow would take the index, and end the process over it."""
    (tmp_path / "a.ckpt").write_bytes(single(("W", (4, 2), 8)))
    (tmp_path / "a.ckpt.index").write_bytes(FORGED["a negative length"])
    refused(lambda: opened(tmp_path / "a.ckpt"), tmp_path / "a.ckpt", "the shape (-4, 2)")
