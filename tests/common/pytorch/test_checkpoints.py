import os
import pickle

import pytest
import torch
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


def test_half_a_file(tmp_path):
    checkpoints.write(tmp_path / "a.pth", {"model": {"w": torch.zeros(1000)}})
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a readable checkpoint"):
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
