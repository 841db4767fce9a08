"""Three steps of the original's `Train.train`, recorded in float64: the gate for everything that trains."""

import numpy as np
import pytest
import torch
from torch import nn

from spol.cam.train import Losses
from spol.config import recipe
from spol.losses import FOREGROUND, IGNORED, segmentation_loss
from spol.options import TrainOptions, TrainSource
from spol.preprocessing import target
from spol.training import learning_rates, optimizer_of
from tests import fill
from tests.spol import filled

CASES = [
    ("train_cub_cam", "cam", "cub", 200),
    ("train_imagenet_cam", "cam", "imagenet", 1000),
    ("train_cub_seg", "seg", "cub", 1),
]


class RecordedDropout(nn.Module):
    """Call number i multiplies by twice the recorded mask i."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, values):
        kept = np.random.RandomState(1000 + self.calls).uniform(size=tuple(values.shape)) < 0.5
        self.calls += 1
        return values * torch.from_numpy(2 * kept).to(values.dtype)


def pseudo_masks():
    masks = []
    for number in range(4):
        image = fill.image(224, 224, 7000 + number).astype(np.float32)
        masks.append(np.clip((image[..., :2] - [110, 150]) * 2, 0, 255).astype(np.uint8))
    return np.stack(masks)


def targets(step):
    rolled = np.roll(pseudo_masks(), step, axis=0)
    return torch.from_numpy(np.stack([target(mask[..., 0], mask[..., 1]) for mask in rolled]))


def prepared(stage, dataset, classes, tmp_path):
    network = filled.network(stage, classes).double().train()
    options = TrainOptions(data=TrainSource("cub", tmp_path), out=tmp_path)
    stem = ["bkbone.conv1.", "bkbone.bn1."] if recipe(stage, dataset).frozen_stem else []
    optimizer = optimizer_of(network, options, ["bkbone."], stem)
    for group, rate in zip(
        optimizer.param_groups, learning_rates(optimizer, recipe(stage, dataset))(0, 0), strict=True
    ):
        group["lr"] = rate
    return network, optimizer


def losses_of(network, stage, dataset, recorded, step):
    images = filled.images(4, 224, 11 + step).double()
    if stage == "seg":
        return segmentation_loss(network(images), targets(step))
    return Losses(recipe(stage, dataset).two_branches)(network, images, torch.from_numpy(recorded["labels"][step]))


def compare(network, names, found, recorded, suffix):
    tensors = [found[name].detach().double() for name in names]
    filled.close([float(tensor.sum()) for tensor in tensors], recorded[f"sum_{suffix}"], 1e-6)
    filled.close([float(tensor.norm()) for tensor in tensors], recorded[f"l2_{suffix}"], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage", "dataset", "classes"), CASES)
def test_steps_are_the_recorded_ones(golden, tmp_path, name, stage, dataset, classes):
    """Losses, gradients, groups, parameters and running statistics; relative 1e-6, seen 1e-9."""
    recorded = golden(f"spol/{name}")
    network, optimizer = prepared(stage, dataset, classes, tmp_path)
    network.dropout = nn.Identity()
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    names = recorded["param_names"].tolist()
    assert list(parameters) == names
    group_of = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    assert [group_of.get(id(parameters[key]), -1) for key in names] == recorded["group"].tolist()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(recorded["group_lr"].tolist())
    for step in range(3):
        values = losses_of(network, stage, dataset, recorded, step)
        for key in ("loss", "loss1", "loss2"):
            if key in values:
                assert float(values[key]) == pytest.approx(recorded[f"f64_{key}"][step], rel=1e-6), (key, step)
        optimizer.zero_grad()
        values["loss"].backward()
        if step == 0:
            filled.close([float(parameters[key].grad.norm()) for key in names], recorded["f64_grad_norm"], 1e-6)
        optimizer.step()
        if step == 0:
            wanted = {key: recorded[f"f64_param_{key}"] for key in ("sum_after1", "l2_after1")}
            compare(network, names, parameters, wanted, "after1")
            wanted = {key: recorded[f"f64_buffer_{key}"] for key in ("sum_after1", "l2_after1")}
            compare(network, recorded["buffer_names"].tolist(), buffers, wanted, "after1")
    wanted = {key: recorded[f"f64_param_{key}"] for key in ("sum_after3", "l2_after3")}
    compare(network, names, parameters, wanted, "after3")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage", "dataset", "classes"), CASES)
def test_a_step_with_the_recorded_dropout(golden, tmp_path, name, stage, dataset, classes):
    """CUB's deep branch draws its mask first."""
    recorded = golden(f"spol/{name}")
    network, _ = prepared(stage, dataset, classes, tmp_path)
    network.dropout = RecordedDropout()
    values = losses_of(network, stage, dataset, recorded, 0)
    for key in ("loss", "loss1", "loss2"):
        if key in values:
            assert float(values[key]) == pytest.approx(recorded[f"f64_dm_{key}"][0], rel=1e-6)
    values["loss"].backward()
    norms = [float(parameter.grad.norm()) for parameter in network.parameters()]
    filled.close(norms, recorded["f64_dm_grad_norm"], 1e-6)


def test_targets_are_the_recorded_ones(golden):
    recorded = golden("spol/train_cub_seg")
    codes = targets(0).numpy()
    np.testing.assert_array_equal(np.packbits(codes == FOREGROUND), recorded["mask_packed"])
    np.testing.assert_array_equal(np.packbits(codes != IGNORED), recorded["weight_packed"])
