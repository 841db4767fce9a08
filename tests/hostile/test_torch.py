"""Checkpoints of PyTorch, SPOL's verdicts, and the logs of trainings, as a hostile or damaged file may be."""

import io
import json
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bas.weights
import spol.cls.checkpoint
import spol.weights
from bas.validation import Validation
from common.pytorch import backbones, cam, checkpoints
from common.system.errors import UserError
from spol import preprocessing, verdicts
from spol.seg.train import with_masks
from tests import fill
from tests.hostile import torch_readers
from tests.hostile.payloads import Payload, refused

ENTRIES = {
    "read": checkpoints.read,
    "state dict": checkpoints.read_state_dict,
    "trained": lambda path: checkpoints.read_trained(path, "cam"),
    "cam": lambda path: cam.load_classifier(str(path)),
    "bas": bas.weights.load,
    "spol": spol.weights.load,
    "spol cls": lambda path: spol.cls.checkpoint.load(str(path), 2),
}
"""Every way in for a .pth that a user names."""


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_data(archive: bytes, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A torch zip whose data.pkl is another."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    """PyTorch's format of 2016."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def hostile_files(payload: Payload) -> dict[str, bytes]:
    good = saved({"w": torch.zeros(2)})
    files = {f"zip {name}": saved({"model": thing}) for name, thing in payload.objects().items()}
    files |= {f"legacy {name}": saved({"model": thing}, _use_new_zipfile_serialization=False)
              for name, thing in payload.objects().items()}  # fmt: skip
    files |= {f"ours {name}": saved({"format": 1, "config": {"method": "cam", "x": thing}, "model": {}})
              for name, thing in payload.objects().items()}  # fmt: skip
    files |= {f"bare {name}": content for name, content in payload.pickles().items()}
    files |= {f"data.pkl {name}": with_data(good, content) for name, content in payload.pickles().items()}
    files |= {f"tar {name}": tarred(content) for name, content in payload.pickles().items() if name.endswith("2")}
    return files


def test_the_payloads_work(tmp_path):
    """Or none of the refusals below would show anything."""
    for name, content in Payload(tmp_path / "it-ran").pickles().items():
        pickle.loads(content)
        assert (tmp_path / "it-ran").exists(), name
        (tmp_path / "it-ran").unlink()


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_checkpoint_runs_code(tmp_path, payload, entry):
    path = tmp_path / "hostile.pth"
    for name, content in hostile_files(payload).items():
        path.write_bytes(content)
        refused(lambda: ENTRIES[entry](path), path)
        assert not payload.marker.exists(), name


def test_the_message_never_advises_to_unpickle(tmp_path, payload):
    path = tmp_path / "hostile.pth"
    for content in (*hostile_files(payload).values(), b"neither", b"\x80\x02\x99.", with_data(saved({}), b"garbage")):
        path.write_bytes(content)
        message = refused(lambda: checkpoints.read(path), path)
        assert "weights_only" not in message
        assert "trusted source" not in message


def test_weights_in_the_cache_run_no_code(tmp_path, payload):
    for name in ("vgg16-397923af.pth", "resnet50-0676ba61.pth"):
        (tmp_path / name).write_bytes(saved(payload.objects()["os.system"]))
        arch = name.split("-")[0]
        refused(lambda arch=arch: backbones.torchvision_weights(arch, tmp_path), tmp_path / name)


def test_warnings_of_torch_are_not_shown(tmp_path, payload):
    (tmp_path / "a.pth").write_bytes(payload.pickles()["os.system-4"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(lambda: checkpoints.read(tmp_path / "a.pth"), tmp_path / "a.pth")


def test_a_zip_that_unpacks_to_much_more_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    path.write_bytes(with_data(saved({}), bytes(64 * 2**20), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    refused(lambda: checkpoints.read(path), path, "unpacks to 67,1")


def repeated(*shape):
    return torch.zeros(1).expand(*shape)


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("make", [
    lambda: repeated(1_000_000_000, 2048), lambda: torch.zeros(2, 3).to_sparse(), lambda: torch.empty(3, 3, device="meta"),
    lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
], ids=["repeated", "sparse", "meta", "quantized"])  # fmt: skip
def test_tensors_that_are_no_plain_numbers(tmp_path, make):
    """A head of a billion repeated rows would have a network of that size built."""
    path = tmp_path / "a.pth"
    torch.save({"linear.weight": make(), "linear5.weight": torch.zeros(1)}, path)
    refused(lambda: checkpoints.read_state_dict(path), path)
    refused(lambda: spol.weights.load(path), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path, value):
    state = torch_readers.network().state_dict()
    state["0.bias"][0] = value
    with pytest.raises(UserError, match=r"0\.bias holds NaN, infinity or complex numbers"):
        checkpoints.load_strictly(torch_readers.network(), state, tmp_path)


def test_complex_weights_lose_nothing_silently(tmp_path):
    state = {name: value.to(torch.complex64) for name, value in torch_readers.network().state_dict().items()}
    with pytest.raises(UserError, match="complex"):
        checkpoints.load_strictly(torch_readers.network(), state, tmp_path)


@pytest.mark.parametrize("change", [
    {"config": None}, {"config": "x"}, {"config": {}}, {"config": {"method": ["cam"]}}, {"model": None}, {"model": [1]},
    {"model": {"w": "text"}}, {"config": {**torch_readers.CONFIG, "class_names": 5}},
    {"config": {**torch_readers.CONFIG, "class_names": [1, 2]}}, {"config": {**torch_readers.CONFIG, "architecture": 1}},
    {"config": {"method": "cam"}}, {"config": {**torch_readers.CONFIG, "architecture": "evil"}},
    {"config": {**torch_readers.CONFIG, "options": []}},
])  # fmt: skip
def test_our_own_checkpoints_with_wrong_parts(tmp_path, change):
    path = tmp_path / "final.pth"
    checkpoints.write(path, {"config": torch_readers.CONFIG, "model": {}, **change})
    with pytest.raises(UserError):
        cam.load_classifier(str(path))


@pytest.mark.parametrize(("load", "method"), [(bas.weights.load, "bas"), (spol.weights.load, "spol-seg"),
                                              (lambda path: spol.cls.checkpoint.load(str(path), 1), "spol-cls")])  # fmt: skip
@pytest.mark.parametrize("state", [
    {}, {"linear.weight": torch.tensor(1.0), "_fc.weight": torch.tensor(1.0), "classifier_loc.0.weight": torch.tensor(1.0)},
    {"linear.weight": torch.zeros(0, 2), "_fc.weight": torch.zeros(0, 2), "classifier_loc.0.weight": torch.zeros(0, 2)},
], ids=["nothing", "no rows", "zero rows"])  # fmt: skip
def test_heads_without_rows(tmp_path, load, method, state):
    config = {"method": method, "architecture": "vgg", "variant": "CUB", "class_names": ["a"]}
    checkpoints.write(tmp_path / "a.pth", {"config": config, "model": state})
    refused(lambda: load(tmp_path / "a.pth"), tmp_path / "a.pth")


def test_an_unknown_network_in_our_checkpoint_of_bas(tmp_path):
    config = {"method": "bas", "architecture": "evil", "variant": "CUB", "class_names": ["a"]}
    checkpoints.write(tmp_path / "a.pth", {"config": config, "model": {"classifier_loc.0.weight": torch.zeros(1, 1)}})
    refused(lambda: bas.weights.load(tmp_path / "a.pth"), tmp_path / "a.pth", "unknown architecture 'evil'")


# ------------------------------------------------------------------------------------------- the original's top1top5.npy


def npy(pickled: bytes, shape: str = "()") -> bytes:
    """An .npy file of an object array with that pickle in it."""
    buffer = io.BytesIO()
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    buffer.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    return buffer.getvalue() + pickled


def test_no_verdicts_run_code(tmp_path, payload):
    path = tmp_path / "top1top5.npy"
    for name, thing in payload.objects().items():
        for protocol in range(6):
            for content in (thing, {"a.jpg": thing}, {thing: [True, True]}):
                path.write_bytes(npy(pickle.dumps(content, protocol)))
                refused(lambda: verdicts.read(path), path)
                assert not payload.marker.exists(), (name, protocol)


GADGETS = {
    "an array of a terabyte": b"cnumpy\nndarray\n((I10000000000\ntS'O'\ntR.",
    "an array of a terabyte, rebuilt": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I10000000000\ntS'O'\ntR.",
    "another class of numpy": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    "a path through an attribute": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.__new__\x93.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pevil\n.",
    "nothing": b"",
}


@pytest.mark.parametrize("gadget", GADGETS.values(), ids=GADGETS)
def test_pickles_that_ask_numpy_for_more(tmp_path, gadget):
    path = tmp_path / "top1top5.npy"
    path.write_bytes(npy(gadget))
    refused(lambda: verdicts.read(path), path)


def laughs(levels: int) -> bytes:
    """A dictionary whose key is a tuple of tuples of tuples, whose hash takes 2^levels steps."""
    nested = b"(t" + b"2\x86" * levels
    return b"\x80\x02}" + nested + b"\x88s."


@pytest.mark.parametrize(
    "content", [laughs(60), b"\x80\x02}X\x01\x00\x00\x00a" + b"(l2" * 1 + b"\x86" + b"2\x86" * 60 + b"s."]
)
def test_a_pickle_that_repeats_itself_does_not_hang(tmp_path, content):
    path = tmp_path / "top1top5.npy"
    path.write_bytes(npy(content))
    refused(lambda: verdicts.read(path), path, "it repeats itself")


def test_deeply_nested_verdicts(tmp_path):
    path = tmp_path / "top1top5.npy"
    path.write_bytes(npy(b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 100_000 + b"a" * 99_999 + b"s."))
    refused(lambda: verdicts.read(path), path)


@pytest.mark.parametrize("header", [b"(" * 5000, b"-" * 9000 + b"1", b"{'descr': '|O'", b"'\n", b"[" * 9000, b""])
def test_verdicts_with_a_hostile_header(tmp_path, header):
    path = tmp_path / "top1top5.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(lambda: verdicts.read(path), path)


@pytest.mark.parametrize("row", [
    {"top5": [10**30], "scores": [0.5]}, {"top5": [1], "scores": [10**400]}, {"top5": [1], "scores": [float("nan")]},
    {"top5": [True], "scores": [0.5]}, {"top5": "1", "scores": "1"}, {"top5": [1, 2], "scores": [0.5]}, None, [], 5,
])  # fmt: skip
def test_classifications_with_wrong_parts(tmp_path, row):
    path = tmp_path / "classification.json"
    path.write_text(json.dumps({"format": 1, "classifier": "x", "images": {"a.jpg": row}}))
    refused(lambda: verdicts.read(path), path, "no classification result")


# --------------------------------------------------------------------------------------- between a method's own steps


def test_a_pseudo_mask_that_is_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    from PIL import Image

    from common.pictures import images

    path = tmp_path / "mask.png"
    Image.fromarray(fill.image(40, 40)).save(path)
    assert preprocessing.read_pseudo_mask(path).shape == (40, 40, 2)
    monkeypatch.setattr(images, "MAX_PIXELS", 1599)
    assert preprocessing.read_pseudo_mask(path) is None
    assert preprocessing.read_pseudo_mask(tmp_path / "none.png") is None


@pytest.mark.parametrize("content", ["[]", "5", '{"complete": true, "skipped": [1]}'])
def test_manifests_of_pseudo_masks(tmp_path, content):
    from spol.data import MASK_MANIFEST

    (tmp_path / MASK_MANIFEST).write_text(content)
    refused(lambda: with_masks(None, tmp_path), tmp_path / MASK_MANIFEST, "not the manifest of pseudo masks")


@pytest.mark.parametrize("content", [b"half a li", b"[]\n", b"\xff\n", b'{"epoch": "x"}\n', b"5\n"])
def test_a_damaged_log_of_validations(tmp_path, content):
    (tmp_path / "validation.jsonl").write_bytes(content)
    validation = object.__new__(Validation)
    validation.folder = Path(tmp_path)
    refused(lambda: validation._earlier(3), tmp_path / "validation.jsonl", "not a log of validations")


def test_verdicts_are_still_read(tmp_path):
    """What numpy writes, in this version and as numpy 2 names it."""
    flags = {f"{number}.jpg": [number % 2 == 0, True] for number in range(500)}
    np.save(tmp_path / "top1top5.npy", np.array(flags, dtype=object), allow_pickle=True)
    content = (tmp_path / "top1top5.npy").read_bytes()
    assert verdicts.read_npy(tmp_path / "top1top5.npy") == {name: tuple(pair) for name, pair in flags.items()}
    (tmp_path / "top1top5.npy").write_bytes(content.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"))
    assert len(verdicts.read_npy(tmp_path / "top1top5.npy")) == 500
