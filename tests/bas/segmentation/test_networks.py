import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bas.segmentation import affinity
from bas.segmentation.networks import CamNetwork, IrnNetwork, build_bas, pair_maps
from tests import fill
from tests.bas.segmentation.filled import assert_close, filled, golden, inputs, pair


@pytest.mark.slow
@torch.no_grad()
def test_bas_maps_of_a_pair_are_the_recorded_ones():
    """Float64 1e-9, float32 1e-4, of the greatest value."""
    recorded = golden("bas_infer")
    network = filled(build_bas("resnet50", 20)).eval()
    for case in ("i0", "i2"):
        images = pair(*recorded[f"{case}/hws"])
        assert_close(pair_maps(network, images), recorded[f"{case}/map_f64"], 1e-9)
        assert_close(network.classify(network.extract(images)).mean(dim=(2, 3)), recorded[f"{case}/score_f64"], 1e-9)
    found = pair_maps(network.float(), pair(*recorded["i1/hws"], torch.float32))
    assert_close(found[:, ::2, ::2], recorded["i1/map_f32"], 1e-4)


def optimizer_steps(network, groups, rates, momentum, decay, most, losses):
    """(parameter changes, losses) of a step each: SGD with the release's decay of its rates."""
    from bas.segmentation.train import poly

    optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=1.0, momentum=momentum, weight_decay=decay)
    for step, loss_of in enumerate(losses):
        for group, rate in zip(optimizer.param_groups, poly(rates, most)(0, step), strict=True):
            group["lr"] = rate
        before = {name: value.detach().clone() for name, value in network.named_parameters()}
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        gradients = {name: value.grad for name, value in network.named_parameters()}
        optimizer.step()
        changes = {name: float((value.detach() - before[name]).norm()) for name, value in network.named_parameters()}
        yield loss.item(), gradients, changes


def test_bas_parameters_are_in_the_recorded_groups():
    """In the recorded order; the biases of batch norm are in none."""
    from bas.segmentation.train import bas_groups

    recorded = golden("bas_train")
    with torch.device("meta"):
        network = build_bas("resnet50", 20)
    names, groups = {id(value): name for name, value in network.named_parameters()}, bas_groups(network)
    found = [[names[id(value)] for value in group] for group in groups]
    assert found == [recorded[f"step/order{number}"].tolist() for number in (0, 1)]


@pytest.mark.slow
@torch.no_grad()
def test_cam_network_of_stride_8_is_the_recorded_one():
    """Float64, 1e-9 of the greatest value."""
    network = filled(CamNetwork("resnet50", 20, stride=8)).eval()
    recorded = golden("cam")
    assert_close(pair_maps(network, pair(*recorded["i1/hws"])), recorded["stride8/cam"], 1e-9)
    with pytest.raises(ValueError, match="mobilenet_v1 has no stride 8"):
        CamNetwork("mobilenet_v1", 20, stride=8)


@pytest.mark.slow
def test_cam_network_and_its_training_are_the_recorded_ones():
    """Float64: logits, losses, gradients, two steps, maps; 1e-8 of the greatest value."""
    from bas.segmentation.train import cam_groups

    recorded = golden("cam")
    network = filled(CamNetwork("resnet50", 20)).eval()
    with torch.no_grad():
        images = pair(*recorded["i1/hws"])
        assert_close(pair_maps(network, images), recorded["i1/cam_f64"], 1e-9)
        assert_close(network(images), recorded["i1/logits"], 1e-9)
    recorded = golden("cam", "train/")
    names = recorded["param_names"].tolist()
    images = inputs(fill.batch(*recorded["cfg_n_h_w_s"]))
    labels = torch.from_numpy(recorded["labels"]).double()
    lr, decay, most = recorded["lr_wd_maxstep"]
    network.train()
    trains = dict(network.named_parameters())
    assert list(trains) == names
    assert [trains[name].requires_grad for name in names] == recorded["requires_grad"].tolist()
    groups = cam_groups(network)
    head = {id(value) for value in groups[1]}
    assert [int(id(trains[name]) in head) for name in names] == recorded["group"].tolist()

    def loss():
        return F.multilabel_soft_margin_loss(network(images), labels)

    steps = list(optimizer_steps(network, groups, [lr, 10 * lr], 1e-4, decay, int(most), [loss, loss]))
    norms = [-1.0 if steps[0][1][name] is None else 0.0 for name in names]
    assert [norm < 0 for norm in recorded["grad_norm"]] == [norm < 0 for norm in norms]
    for number, (value, _, changes) in enumerate(steps):
        assert value == pytest.approx(float(recorded[f"loss_{number}"]), rel=1e-9)
        assert_close([changes[name] for name in names], recorded[f"delta_norm_{number}"], 1e-8)


def test_frozen_norm_stays_as_it_is_in_training():
    network = filled(CamNetwork("mobilenet_v1", 3), torch.float32).train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(2, 3, 40, 48)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    assert network.trunk.model[3][1].weight.grad is not None
    assert network.trunk.model[0][0].weight.grad is None


@pytest.mark.slow
def test_irn_and_its_training_are_the_recorded_ones():
    """Float64: edges, displacements, the parts of the loss, two steps; 1e-8 of the greatest value."""
    from bas.segmentation.train import irn_groups

    recorded = golden("irn", "train/")
    names = recorded["param_names"].tolist()
    count, side, seed = recorded["cfg_n_crop_s"]
    images, labels = inputs(fill.batch(count, side, side, seed)), torch.from_numpy(recorded["reduced_labels"])
    network = filled(IrnNetwork()).train()
    parameters = dict(network.named_parameters())
    assert sorted(parameters) == sorted(names)
    groups = irn_groups(network)
    of = {id(value): number for number, group in enumerate(groups) for value in group}
    assert [of.get(id(parameters[name]), -1) for name in names] == recorded["group"].tolist()
    found = {}

    def loss():
        found["edges"], found["moves"] = network(images)
        found.update(affinity.losses(found["edges"], found["moves"], labels, 10, 20))
        if "first" not in found:
            found["first"] = {name: value.detach() for name, value in found.items()}
        return found["loss"]

    lr, decay, most = recorded["lr_wd_maxstep"]
    steps = list(optimizer_steps(network, groups, [lr, 10 * lr], 1e-4, decay, int(most), [loss, loss]))
    first = found["first"]
    assert_close(first["edges"], recorded["edge_out"], 1e-9)
    assert_close(first["moves"], recorded["dp_out"], 1e-9)
    for number, (value, gradients, changes) in enumerate(steps):
        assert value == pytest.approx(float(recorded[f"loss_{number}"]), rel=1e-8)
        assert_close([changes[name] for name in names], recorded[f"delta_norm_{number}"], 1e-8)
        if number == 0:
            norms = [-1.0 if gradients[name] is None else 0.0 for name in names]
            assert [norm < 0 for norm in recorded["grad_norm"]] == [norm < 0 for norm in norms]
    parts = [first[name] for name in ("background", "foreground", "different", "displaced", "still")]
    bgp, fgp, different, displaced, still = (float(part) for part in parts)
    expected = [bgp, fgp, (bgp + fgp) / 2, different, displaced, still]
    assert_close(np.array(expected), recorded["parts_0"], 1e-8)


@pytest.mark.slow
def test_irn_takes_the_mean_displacement_off_and_its_edges_are_the_recorded_ones():
    """Float64 1e-8, float32 1e-4."""
    recorded = golden("irn")
    network = filled(IrnNetwork()).eval()
    network.mean_shift.running_mean.copy_(torch.from_numpy(recorded["mean_shift"]))
    with torch.no_grad():
        edges, moves = network.look(pair(*recorded["infer0/hws"]))
        assert_close(edges, recorded["infer0/edge_f64"], 1e-8)
        assert_close(moves, recorded["infer0/dp_f64"], 1e-8)
        edges, moves = network.float().look(pair(*recorded["infer1/hws"], torch.float32))
        assert_close(edges, recorded["infer1/edge_f32"], 1e-4)
        assert_close(moves, recorded["infer1/dp_f32"], 1e-4)


@torch.no_grad()
def test_irn_takes_images_above_512():
    """The release crops them and then fails; here they are padded to the next multiple of 16."""
    network = IrnNetwork("mobilenet_v1").eval()
    edges, moves = network.look(torch.randn(2, 3, 20, 521))
    assert edges.shape == (1, 5, 131)
    assert moves.shape == (2, 5, 131)


@torch.no_grad()
@pytest.mark.parametrize("trunk", ["mobilenet_v1"])
@pytest.mark.parametrize("size", [(33, 47), (64, 80)])
def test_maps_have_stride_16_at_any_size(trunk, size):
    images = torch.randn(2, 3, *size)
    expected = (2, 4, -(-size[0] // 16), -(-size[1] // 16))
    for tap in (6, 7, 11, 12):
        assert build_bas(trunk, 4, tap).eval().maps(images).shape == expected
    assert CamNetwork(trunk, 4).eval().maps(images).shape == expected
    with pytest.raises(ValueError, match="tap is block 5"):
        build_bas(trunk, 4, 5)


@pytest.mark.parametrize("run", ["bas_1gpu", "bas_4gpu", "cam", "irn", "tiny"])
def test_learning_rates_are_the_recorded_ones(run):
    """1e-12. The four-process run decays over one process's batches of the same images."""
    from bas.segmentation.config import RECIPES
    from bas.segmentation.train import decay_steps, poly

    recorded = golden("lists_schedule")[f"lr/{run}"]
    steps = {"bas_1gpu": 6610, "bas_4gpu": 26450, "cam": 3305, "irn": 990, "tiny": 5}[run]
    if run != "tiny":
        recipe = RECIPES[run.split("_")[0], "resnet50"]
        recipe = recipe if run != "bas_1gpu" else dataclasses.replace(recipe, poly_world=1)
        assert decay_steps(recipe, 10_582) == steps
        rates = [recipe.lr, 10 * recipe.lr]
    else:
        rates = [0.3, 0.7]
    for step, *expected in recorded:
        np.testing.assert_allclose(poly(rates, steps)(0, int(step)), expected, rtol=1e-12, err_msg=str(step))
