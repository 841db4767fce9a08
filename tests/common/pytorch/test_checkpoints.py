import argparse
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.pytorch import checkpoints
from common.system.errors import UserError


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/this-must-not-exist",)


@pytest.fixture(autouse=True)
def nothing_is_executed():
    yield
    assert not os.path.exists("/tmp/this-must-not-exist")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": Bomb()}, path)
    with pytest.raises(UserError, match="loading that would run code from it"):
        checkpoints.read(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        checkpoints.read(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 half a zip", b"\x80\x02}"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        checkpoints.read(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def zipped(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"")
    return content.getvalue()


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.pth", b"", "the file is empty. Fetch it again"),
    ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, as Keras writes"),
    ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS .* git lfs pull"),
    ("a.pth", b"<!DOCTYPE html><html>", "a web page in the file's place"),
    ("a.onnx", b"\x08\x07\x12\x07pytorch", r"a graph of another library \(\.onnx\)"),
    ("a.keras", zipped("model.weights.h5"), "a network of Keras"),
    ("a.npz", zipped("fc.weight.npy"), "arrays of numpy"),
    ("a.pt", zipped("a/constants.pkl"), "a TorchScript network; expected what torch.save writes"),
])  # fmt: skip
def test_files_that_are_something_else_are_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        checkpoints.read(tmp_path / name)


def test_torchscript_holds_what_it_is_told_by(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "a.pt")
    with pytest.raises(UserError, match="a TorchScript network"):
        checkpoints.read(tmp_path / "a.pt")


def test_half_a_file(tmp_path):
    checkpoints.write(tmp_path / "a.pth", {"model": {"w": torch.zeros(1000)}})
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"not a readable checkpoint .* Name the file that a training wrote"):
        checkpoints.read(tmp_path / "a.pth")


def test_missing(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoints.read(tmp_path / "a.pth")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
def test_state_dicts_are_found(tmp_path, wrap):
    torch.save(wrap({"w": torch.ones(2)}), tmp_path / "a.pth")
    assert checkpoints.read_state_dict(tmp_path / "a.pth")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("content", [{}, {"a": 1}, [1, 2], {"model": {"w": "text"}}])
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no state dict in this file"):
        checkpoints.read_state_dict(tmp_path / "a.pth")


def test_old_files_of_torch_1_4_are_read(tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False)
    assert checkpoints.read_state_dict(tmp_path / "a.pth.tar")["w"].tolist() == [0, 1, 2]


def test_names_and_shapes_that_differ_are_said(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = dict(model.state_dict())
    checkpoints.load_strictly(model, state, tmp_path)
    state["2.weight"] = state.pop("1.weight")
    state["0.bias"] = torch.zeros(4)
    with pytest.raises(UserError) as caught:
        checkpoints.load_strictly(model, state, tmp_path)
    assert "1 missing (1.weight)" in str(caught.value)
    assert "1 unexpected (2.weight)" in str(caught.value)
    assert "1 of another shape (0.bias (4,) for (3,))" in str(caught.value)


def test_the_last_two_steps_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoints.write_step(tmp_path, step, {"step": step})
    assert sorted(os.listdir(tmp_path)) == ["step-00000002.pth", "step-00000010.pth"]
    assert checkpoints.latest_step(tmp_path)["step"] == 10


def test_a_damaged_step_falls_back_to_the_one_before_it_and_says_so(tmp_path, capsys):
    for step in (1, 2):
        checkpoints.write_step(tmp_path, step, {"step": step})
    (tmp_path / "step-00000002.pth").write_bytes(b"half")
    assert checkpoints.latest_step(tmp_path)["step"] == 1
    assert "warning: " in capsys.readouterr().out
    (tmp_path / "step-00000001.pth").write_bytes(b"half")
    with pytest.raises(UserError, match="none of the checkpoints can be read"):
        checkpoints.latest_step(tmp_path)
    assert checkpoints.latest_step(tmp_path / "new") is None


def test_checkpoints_of_something_else(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        checkpoints.read_trained(tmp_path / "a.pth", "cam")
    checkpoints.write(tmp_path / "b.pth", {"config": {"method": "bas"}, "model": {}})
    with pytest.raises(UserError, match="a checkpoint of 'bas'; expected one of 'cam'"):
        checkpoints.read_trained(tmp_path / "b.pth", "cam")


STATE = {"0.weight": torch.arange(6.0).reshape(3, 2), "0.bias": torch.ones(3)}


@pytest.mark.parametrize("wrap", [
    lambda s: {"net": s, "acc": 0.9}, lambda s: {"model_state_dict": s}, lambda s: {"state_dict_ema": s},
    lambda s: {f"module.{name}": value for name, value in s.items()},
    lambda s: {f"_orig_mod.module.{name}": value for name, value in s.items()},
    lambda s: {"model": {"state_dict": {f"module.{name}": value for name, value in s.items()}}},
    lambda s: {"model": s, "best": np.float64(0.25), "epoch": np.int64(3), "fast": np.bool_(True)},
    lambda s: {"model": s, "best": np.float32(0.25)},
])  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_dicts_as_people_save_them(tmp_path, wrap, protocol):
    content = wrap(STATE)
    if protocol > 2:
        content = {key: value for key, value in content.items() if not isinstance(value, np.generic)}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
    found = checkpoints.read_state_dict(tmp_path / "a.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_numpy_scalars_become_plain_numbers(tmp_path):
    """Without running any of numpy's unpickling."""
    values = [np.float64(0.1), np.float32(0.25), np.float16(2), np.int64(-3), np.uint8(200), np.bool_(True)]
    torch.save({"values": values}, tmp_path / "a.pth")
    found = checkpoints.read(tmp_path / "a.pth")["values"]
    assert found == [0.1, 0.25, 2.0, -3, 200, True]
    assert {type(value) for value in found} == {float, int, bool}
    torch.save({"values": np.arange(3)}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"more than tensors and plain values \(numpy.*_reconstruct"):
        checkpoints.read(tmp_path / "b.pth")


def test_a_file_of_safetensors_is_read_by_its_content(tmp_path):
    save_file({name: value.bfloat16() for name, value in STATE.items()}, tmp_path / "a.pth")
    found = checkpoints.read_state_dict(tmp_path / "a.pth")
    assert torch.equal(found["0.weight"].float(), STATE["0.weight"])
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.pth").read_bytes()[:-4])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        checkpoints.read(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("content", "said"), [
    ({"net": STATE, "model": STATE}, r"which holds net \(dict of 2\), model \(dict of 2\)"),
    ({"generator": STATE, "epoch": 3}, r"which holds generator \(dict of 2\), epoch \(int\)"),
    ([1, 2], r"which holds list of 2"),
])  # fmt: skip
def test_what_a_file_without_one_state_dict_holds_is_said(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=said):
        checkpoints.read_state_dict(tmp_path / "a.pth")


def test_of_weights_and_their_average_the_weights_are_taken_and_that_is_said(tmp_path, capsys):
    torch.save({"state_dict_ema": {"w": torch.zeros(1)}, "state_dict": {"w": torch.ones(1)}}, tmp_path / "a.pth")
    assert checkpoints.read_state_dict(tmp_path / "a.pth")["w"] == 1
    assert "holds state_dict and state_dict_ema; state_dict is taken" in capsys.readouterr().out


def test_classes_that_a_file_holds_are_named(tmp_path):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"more than tensors and plain values \(argparse.Namespace\)"):
        checkpoints.read(tmp_path / "a.pth")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_code_in_a_later_protocol_is_not_run(tmp_path, protocol):
    torch.save({"model": Bomb()}, tmp_path / "a.pth", pickle_protocol=protocol)
    with pytest.raises(UserError, match=r"loading that would run code from it") as caught:
        checkpoints.read(tmp_path / "a.pth")
    assert "system" in str(caught.value)


def test_half_precision_and_missing_counts_load(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = {name: value.half() for name, value in model.state_dict().items() if "num_batches" not in name}
    checkpoints.load_strictly(model, state, tmp_path)
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, state["0.weight"].float())
    del state["1.running_var"]
    with pytest.raises(UserError, match="1 missing"):
        checkpoints.load_strictly(model, state, tmp_path)


def test_eight_bit_floats_load(tmp_path):
    """A quarter is exact in eight bits; PyTorch itself can't say whether such numbers are finite."""
    model = torch.nn.Linear(2, 2)
    state = {"weight": torch.full((2, 2), 0.25).to(torch.float8_e4m3fn), "bias": torch.zeros(2)}
    checkpoints.load_strictly(model, state, tmp_path)
    assert model.weight.tolist() == [[0.25, 0.25]] * 2
