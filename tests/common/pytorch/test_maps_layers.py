"""Layers that can be mapped: found, named and numbered; what has to lie behind one for CAM; tokens as maps."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import nn

from common.pytorch import maps
from common.system.errors import UserError


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 10, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """A residual block, whose one ReLU is called twice."""

    def __init__(self, width):
        super().__init__()
        self.one, self.two, self.relu = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1), nn.ReLU()

    def forward(self, values):
        return self.relu(values + self.two(self.relu(self.one(values))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.stage1 = nn.Sequential(Block(4), Block(4))
        self.pool = nn.MaxPool2d(2)
        self.stage2 = nn.Sequential(Block(4))
        self.unused = nn.Conv2d(4, 4, 1)
        self.gap, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def forward(self, images):
        return {"logits": self.head(self.gap(self.stage2(self.pool(self.stage1(self.stem(images))))).flatten(1))}


def test_layers_are_what_everything_flows_through(images):
    found = maps.layers(Residual().eval(), images)
    assert [layer.name for layer in found] == ["stage2.0", "pool", "stage1.1", "stage1.0", "stem"]
    assert [layer.shape for layer in found] == [(4, 6, 5), (4, 6, 5), (4, 12, 10), (4, 12, 10), (4, 12, 10)]


@pytest.mark.parametrize(("wanted", "names"), [
    ((0,), ["stage2.0"]), (("1", "stem"), ["pool", "stem"]), (("stage1.0.two",), ["stage1.0.two"]),
    (("stage2", 0), ["stage2", "stage2.0"]), (("all", 0), ["stage2.0", "pool", "stage1.1", "stage1.0", "stem"]),
])  # fmt: skip
def test_layers_by_name_number_and_all(images, wanted, names):
    assert [name for _, name in maps.Mapper(Residual().eval(), ("dgl",), wanted).runs(images)] == names


@pytest.mark.parametrize(("wanted", "message"), [
    ("stage3", "there is no layer 'stage3'; expected all, or of 0 stage2.0, 1 pool, 2 stage1.1, 3 stage1.0, 4 stem"),
    (5, "there is no layer 5; expected all, or of 0 stage2.0"),
    ("stage1.0.relu", "the layer stage1.0.relu is called several times in one pass"),
    ("unused", "the layer unused is not called"),
    ("head", r"the layer head gives \(3, 3\) for images"),
])  # fmt: skip
def test_layers_that_there_are_not(images, wanted, message):
    with pytest.raises(UserError, match=message):
        maps.Mapper(Residual().eval(), ("dgl",), (wanted,))(images)


def test_cam_and_the_refined_map_need_the_averaged_layer(images):
    for method in ("cam", "grcam"):
        with pytest.raises(UserError, match="no linear function of this layer's mean"):
            maps.Mapper(Residual().eval(), (method,), ("stem",))(images)
        found = maps.Mapper(Residual().eval(), (method, "grad-cam"), ("stem",))(images).maps
        assert set(found) == {(method, "stage2.0"), ("grad-cam", "stem")}


class Headed(nn.Module):
    """A convolution, its mean, and a head of five channels."""

    def __init__(self, *head: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True)), nn.Sequential(*head)

    def forward(self, images):
        return self.head(self.features(images).mean(dim=(2, 3)))


class Unit(nn.Module):
    def forward(self, values):
        return F.normalize(values)


@pytest.mark.parametrize("method", ["cam", "grcam"])
def test_cam_and_the_refined_map_need_a_linear_head(images, method):
    """Hidden layers and unit length, whose gradients are the same at every position too, are refused by these alone."""
    small = nn.Linear(5, 6)  # of whose scores Hardswish is all but linear near zero
    nn.init.normal_(small.weight, std=0.01)
    nn.init.zeros_(small.bias)
    hidden = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)
    for head in (hidden, (small, nn.Hardswish(), nn.Linear(6, 4)), (Unit(), nn.Linear(5, 4))):
        with pytest.raises(
            UserError, match="between features and the scores there is more than averaging and one linear"
        ):
            maps.Mapper(Headed(*head).eval(), (method,))(images)
        maps.Mapper(Headed(*head).eval(), ("grad-cam", "dgl"))(images)
    for head in ((nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 4)), (nn.Linear(5, 6), nn.Linear(6, 4))):
        maps.Mapper(Headed(*head).eval(), (method,))(images)


def test_cam_through_a_layer_norm_is_what_the_score_is_the_mean_of(images):
    """By the equation in `norms`, 1e-5; Grad-CAM in the same call keeps the whole derivative."""
    network = Headed(nn.LayerNorm(5), nn.Linear(5, 4)).eval()
    norm, linear = network.head
    nn.init.uniform_(norm.weight, 0.2, 2, torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 1])
    found = maps.Mapper(network, ("cam", "grad-cam"))(images, labels)
    features = network.features(images).detach().requires_grad_()
    rows = (linear.weight * norm.weight)[labels]
    wanted = torch.einsum("nk,nkhw->nhw", rows - rows.mean(dim=1, keepdim=True), features).detach()
    deviation = (features.mean(dim=(2, 3)).var(dim=1, unbiased=False) + norm.eps).sqrt()[:, None, None].detach()
    np.testing.assert_allclose(found.maps["cam", "features"], wanted / deviation, rtol=1e-4, atol=1e-5)
    scores = network.head(features.mean(dim=(2, 3)))
    (selection,) = torch.autograd.grad(scores[torch.arange(3), labels].sum(), features)
    whole = (features * selection).sum(dim=1).relu().detach()
    np.testing.assert_allclose(found.maps["grad-cam", "features"], whole, atol=1e-5)
    assert (found.maps["cam", "features"].relu() / 80 - whole).abs().max() > 0.01 * whole.max()
    np.testing.assert_allclose(found.scores, scores.detach(), atol=1e-6)


@pytest.mark.parametrize(("last", "name"), [
    (nn.Softmax(dim=1), "softmax"), (nn.LogSoftmax(dim=1), "log-softmax"), (nn.Sigmoid(), "sigmoid"),
    (nn.LogSigmoid(), "log-sigmoid"),
])  # fmt: skip
@pytest.mark.parametrize("method", list(maps.METHODS))
def test_probabilities_in_place_of_scores_are_refused(images, last, name, method):
    with pytest.raises(UserError, match=f"the network ends in a {name}; expected scores as they are before it"):
        maps.Mapper(Headed(nn.Linear(5, 4), last).eval(), (method,))(images)


class Tokens(nn.Module):
    """Patches as tokens behind a class token, mixed by two layers; the class token is what is classified."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.mixed = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        values = self.patch(images).flatten(2).transpose(1, 2)
        values = torch.cat([values.mean(dim=1, keepdim=True), values], dim=1)
        for layer in self.mixed:
            values = torch.tanh(layer(values))
            values = values + values.mean(dim=1, keepdim=True)
        return self.head(values[:, 0])


def test_tokens_take_a_reshape():
    """M at a layer of tokens, by the equations written out, 1e-5 of the greatest value."""
    torch.manual_seed(0)
    network, images = Tokens().eval(), torch.randn(2, 3, 8, 8)
    found = maps.Mapper(network, ("dgl",), ("mixed.0",), reshape=maps.tokens(1))(images, torch.tensor([0, 2]))
    assert found.maps["dgl", "mixed.0"].shape == (2, 4, 4)
    values = network.patch(images).flatten(2).transpose(1, 2)
    tapped = network.mixed[0](torch.cat([values.mean(dim=1, keepdim=True), values], dim=1)).detach().requires_grad_()
    after = torch.tanh(tapped)
    after = torch.tanh(network.mixed[1](after + after.mean(dim=1, keepdim=True)))
    scores = network.head((after + after.mean(dim=1, keepdim=True))[:, 0])
    label = F.one_hot(torch.tensor([0, 2]), 3).float()
    d, g = (torch.autograd.grad(scores, tapped, vector, retain_graph=True)[0][:, 1:]
            for vector in (label, scores.softmax(1).detach() - 10 * label))  # fmt: skip
    s = tapped[:, 1:].detach()
    a = s / s.flatten(1).norm(dim=1)[:, None, None] - g / g.flatten(1).norm(dim=1)[:, None, None]
    wanted = (d * a).sum(dim=2).view(2, 4, 4)
    np.testing.assert_allclose(found.maps["dgl", "mixed.0"], wanted, atol=1e-5 * wanted.abs().max())


def test_tokens_without_a_reshape_are_refused():
    network, images = Tokens().eval(), torch.randn(1, 3, 8, 8)
    with pytest.raises(UserError, match=r"gives \(17, 8\) an image; expected a map \(C, h, w\). Say by `reshape`"):
        maps.layers(network, images)
    with pytest.raises(UserError, match=r"the layer mixed.0 gives \(1, 17, 8\)"):
        maps.Mapper(network, layers=("mixed.0",))(images)
    with pytest.raises(UserError, match="17 tokens behind the first 0 don't fill 4 x 4"):
        maps.Mapper(network, layers=("mixed.0",), reshape=maps.tokens(0))(images)
    assert maps.tokens(1, (2, 8))(torch.zeros(1, 17, 8)).shape == (1, 8, 2, 8)


class Last(nn.Module):
    def forward(self, values):
        return values.movedim(1, 3).contiguous()


@pytest.mark.parametrize(("channels", "size", "places"), [(40, (16, 16), (7, 7)), (9, (16, 16), (7, 7)),
                                                          (8, (16, 12), (7, 5))])  # fmt: skip
def test_maps_with_channels_last_are_noticed(channels, size, places):
    """By the images' proportions, however near the number of channels is to the sides."""
    network = nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2), nn.ReLU(), Last(), nn.Flatten(), nn.Linear(channels * math.prod(places), 3)
    ).eval()
    images = torch.randn(1, 3, *size)
    with pytest.raises(UserError, match=rf"the layer 2 gives \(1, {places[0]}, {places[1]}, {channels}\) for images"):
        maps.Mapper(network, layers=("2",))(images)
    found = maps.Mapper(network, layers=("2",), reshape=maps.channels_last)(images)
    np.testing.assert_allclose(
        found.maps["dgl", "2"], maps.Mapper(network, layers=("1",))(images).maps["dgl", "1"], atol=1e-6
    )
