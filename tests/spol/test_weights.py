import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.pytorch import checkpoints
from common.system.errors import UserError
from spol import weights
from spol.models import build
from spol.options import TrainOptions, TrainSource
from tests import commands

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "backbone", "outputs"), [("cam", "resnet50", 7), ("seg", "resnet101", 1), ("seg", "mobilenet_v1", 1)]
)
def test_released_files_are_recognized(tmp_path, stage, backbone, outputs):
    """A bare state dict in the original's names says what it is."""
    weights.write_released(tmp_path / "model-8", build(stage, outputs, backbone))
    found = weights.load(tmp_path / "model-8")
    assert (found.stage, found.backbone, found.network.outputs) == (stage, backbone, outputs)
    assert found.record["name"] == "model-8"
    with pytest.raises(UserError, match="expected one of the stage"):
        weights.load(tmp_path / "model-8", "cam" if stage == "seg" else "seg")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"linear.weight": print}, tmp_path / "model-8")
    with pytest.raises(UserError, match="loading that would run code"):
        weights.load(tmp_path / "model-8")


@pytest.mark.parametrize(("state", "message"), [
    ({"weight": torch.zeros(1)}, "no MFF-Net in this file"),
    ({"linear.weight": torch.zeros(1, 128, 1, 1), "linear5.weight": torch.zeros(1)}, "expected ResNet50, 101, 152 or MobileNetV1"),
])  # fmt: skip
def test_other_networks_are_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "model-8")
    with pytest.raises(UserError, match=message):
        weights.load(tmp_path / "model-8")


@pytest.mark.slow
def test_the_old_imagenet_file_fills_the_trunk():
    """It holds a classifier and no counters of batches; every other tensor has to be there."""
    network, other = build("seg"), build("seg")
    state = {
        name: value for name, value in other.bkbone.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    weights.fill(
        network.bkbone, {**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, ("fc.",)
    )
    assert torch.equal(network.bkbone.layer4[2].conv3.weight, other.bkbone.layer4[2].conv3.weight)
    del state["layer4.2.conv3.weight"]
    with pytest.raises(UserError, match="1 missing .layer4.2.conv3.weight."):
        weights.fill(network.bkbone, state, ("fc.",))


def test_tf_slims_weights_fill_mobilenets_trunk(monkeypatch):
    other = build("seg", backbone="mobilenet_v1")
    slim = {name.removeprefix("features."): value for name, value in other.bkbone.state_dict().items()}
    monkeypatch.setattr(weights, "load_mobilenet_v1", dict)
    monkeypatch.setattr(weights, "from_tf_slim", lambda arrays: (slim, None, None))
    network = build("seg", backbone="mobilenet_v1")
    weights.start_from_imagenet(network, "mobilenet_v1")
    assert all(
        torch.equal(value, network.bkbone.state_dict()[name]) for name, value in other.bkbone.state_dict().items()
    )


def test_the_released_groups(tmp_path):
    """cam and seg: the trunk, then the rest; ImageNet's cam leaves out the stem."""
    network = build("cam", 3, "mobilenet_v1")
    groups = weights.parameter_groups(network, ["bkbone."], ["bkbone.features.conv_0."], 1e-4, True)
    counted = sum(len(group["params"]) for group in groups)
    assert [group["part"] for group in groups] == ["base", "head"]
    assert counted == len(list(network.parameters())) - 3


@pytest.mark.slow
def test_export(tmp_path):
    network = build("seg", backbone="mobilenet_v1")
    config = {"method": "spol-seg", "architecture": "mobilenet_v1", "class_names": ["a"], "options": {}}
    checkpoints.write(tmp_path / "final.pth", {"config": config, "model": network.state_dict()})
    command = [sys.executable, "-m", "spol.weights", tmp_path / "final.pth", tmp_path / "model-8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = torch.load(tmp_path / "model-8", weights_only=True)
    assert list(again) == list(network.state_dict())
    done = commands.run("spol.weights", *command[3:])
    assert (done.returncode, "the file is there already" in done.stderr) == (2, True)


def test_settings_fill_in_what_was_released(tmp_path):
    options = TrainOptions(data=TrainSource("ilsvrc", tmp_path), out=tmp_path)
    assert (options.settings("cam").batch_size, options.settings("cam").two_branches) == (128, False)
    options = TrainOptions(data=TrainSource("demo", tmp_path), out=tmp_path, lr=0.5)
    assert (options.settings("cam").batch_size, options.settings("cam").two_branches) == (64, True)
    assert options.settings("seg").lr == 0.5
    with pytest.raises(UserError, match="expected 1 or more of each"):
        TrainOptions(data=TrainSource("cub", tmp_path), out=tmp_path, epochs=0).settings("seg")


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    """Each takes half of every batch; rank 0 alone writes."""
    from tests import small_cub

    root = small_cub.make(tmp_path / "CUB", train=4)
    arguments = [
        "--data.name", "cub", "--datapath", root, "--out", tmp_path / "run", "--backbone", "mobilenet_v1", "--epochs", "1",
        "--batch-size", "6", "--resize", "72", "--crop", "64", "--no-pretrained", "--runtime.device", "cpu", "--recipe", "imagenet",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "spol.cam.train", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert checkpoints.read(tmp_path / "run/final.pth")["config"]["options"]["processes"] == 2
    assert done.stdout.count("trained:") == 1
