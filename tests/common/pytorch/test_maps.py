"""Maps of any classifier against Jacobians taken whole, and networks that are awkward to tap."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import nn

from common.pytorch import maps
from common.pytorch.maps.dual_gradients import enhanced, inverse_norm
from common.system.errors import UserError
from tests.dgl_tf.recorded import golden


class Tiny(nn.Module):
    """Two convolutions with an in-place ReLU right behind each, global average pooling, one linear layer."""

    def __init__(self, functional: bool = False):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU(inplace=not functional))
        self.head = nn.Linear(8, 5)
        self.functional = functional

    def forward(self, images):
        values = self.norm(self.first(images))
        values = F.relu(values) if self.functional else values.relu_()
        return self.head(self.second(values).mean(dim=(2, 3)))

    def behind(self, name, values):
        """The scores from a layer's output on, written out."""
        if name == "first":
            values = self.norm(values)
        if name in ("first", "norm"):
            values = F.relu(values)
            values = self.second[0](values)
        if name != "second":
            values = F.relu(values)
        return self.head(values.mean(dim=(2, 3)))

    def until(self, name, images):
        """A layer's output, written out."""
        values = self.first(images)
        if name == "first":
            return values
        values = self.norm(values)
        if name == "norm":
            return values
        values = self.second[0](F.relu(values))
        return values if name == "second.0" else F.relu(values)


LAYERS = ("first", "norm", "second.0", "second")


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Tiny()
    made.norm.running_mean.normal_(std=0.1)
    made.norm.running_var.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def by_jacobian(network, name, images, labels, alpha=10.0, true=False):
    """S, D, G and DGL's map of each image in float64, from the whole Jacobian J = dz / dS."""
    network = network.double()
    parts = []
    for image, label in zip(images.double(), labels, strict=True):
        features = network.until(name, image[None]).detach()
        jacobian = torch.autograd.functional.jacobian(lambda s: network.behind(name, s)[0], features)[:, 0]
        likely = network.behind(name, features)[0].softmax(0).detach()
        target = F.one_hot(torch.tensor(label), len(likely)).double()
        delta = alpha * (likely - target) if true else likely - alpha * target
        gradient, selection = (torch.einsum("k,kchw->chw", vector, jacobian) for vector in (delta, target))
        a = features[0] / features.norm() - gradient / gradient.norm()
        parts.append((features[0], selection, gradient, (selection * a).sum(0)))
    network.float()
    return [torch.stack(part).float().numpy() for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("gradient", ["released", "true"])
def test_every_layers_evidence_and_map(network, images, functional, gradient):
    """1e-5 of the greatest value; all layers in one pass, each with an in-place operation or a function behind it."""
    network.functional, labels = functional, [4, 0, 2]
    network.second[1].inplace = not functional
    scores, found = maps.evidence(network, images, LAYERS, torch.tensor(labels), gradient=gradient)
    mapped = maps.Mapper(network, ("dgl",), LAYERS, gradient=gradient)(images, torch.tensor(labels))
    np.testing.assert_allclose(scores, network(images).detach(), atol=1e-6)
    for name in LAYERS:
        expected = by_jacobian(network, name, images, labels, true=gradient == "true")
        one = found[name]
        ours = (one.features, one.selection, one.gradient, mapped.maps["dgl", name])
        for values, wanted in zip(ours, expected, strict=True):
            np.testing.assert_allclose(values, wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_true_gradient_is_torchs_own_and_the_released_one_is_not(network, images):
    labels = torch.tensor([4, 0, 2])
    features = network.until("norm", images).detach().requires_grad_()
    soft = 10.0 * F.one_hot(labels, 5).float()
    loss = -(soft * network.behind("norm", features).log_softmax(dim=1)).sum()
    wanted = torch.autograd.grad(loss, features)[0]
    true = maps.evidence(network, images, ["norm"], labels, gradient="true")[1]["norm"].gradient
    released = maps.evidence(network, images, ["norm"], labels)[1]["norm"].gradient
    np.testing.assert_allclose(true, wanted, atol=1e-5 * wanted.abs().max())
    assert (released - wanted).abs().max() > 0.05 * wanted.abs().max()


@pytest.mark.parametrize("alpha", ["0.5", "1", "10", "25"])
def test_the_gradient_by_the_scores_is_the_recorded_one(alpha):
    """Of TensorFlow's kernel, 1e-5, ties of the best class among them."""
    recorded = golden("misc")
    logits = torch.from_numpy(recorded[f"pa{alpha}_logits"])

    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.keep = nn.Identity()

        def forward(self, images):
            return self.keep(images).mean(dim=(2, 3))

    given = logits[:, :, None, None].expand(-1, -1, 2, 2).contiguous()
    found = maps.evidence(Scores().eval(), given, ["keep"], alpha=float(alpha))[1]["keep"]
    np.testing.assert_allclose(found.gradient.sum(dim=(2, 3)), recorded[f"pa{alpha}_grad"], atol=1e-5)


def test_best_classes_with_ties():
    recorded = golden("misc")
    np.testing.assert_array_equal(maps.best_classes(torch.from_numpy(recorded["onehot_in"])), recorded["onehot_out"])


def test_norms_below_the_least():
    recorded = golden("misc")
    for given, expected in (("l2n_in", "l2n_out"), ("l2n_tiny_in", "l2n_tiny_out")):
        values = torch.from_numpy(recorded[given])
        as_map = values.permute(0, 3, 1, 2) if values.ndim == 4 else values
        found = enhanced(as_map, torch.zeros_like(as_map)).permute(0, 2, 3, 1)
        np.testing.assert_allclose(found, recorded[expected], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("expanded", [True, False])
def test_norms_of_large_maps(expanded):
    """1e-6; torch's own norm over three axes was 1e-4 and 1e-5 off, the former for the gradient of a mean."""
    drawn = torch.randn(2, 1024, 1, 1, generator=torch.Generator().manual_seed(0))
    values = drawn.expand(2, 1024, 28, 28) if expanded else drawn.repeat(1, 1, 28, 28) + 0.1
    exact = 1 / values.double().square().sum(dim=(1, 2, 3)).sqrt()
    np.testing.assert_allclose(inverse_norm(values)[:, 0, 0], exact, rtol=1e-6)


def test_cam_grad_cam_and_the_refined_map(network, images):
    """Against their equations with the linear layer's weights, 1e-5 of the greatest value."""
    labels = torch.tensor([1, 3, 0])
    found = maps.Mapper(network, ("cam", "grad-cam", "grcam"), ("second",))(images, labels)
    features, weights = network.until("second", images).detach(), network.head.weight.detach()
    cam = torch.einsum("nchw,nc->nhw", features, weights[labels])
    positions = features.shape[2] * features.shape[3]
    likely = network(images).softmax(dim=1).detach()
    gradient = (likely - 10 * F.one_hot(labels, 5)) @ weights / positions
    gate = features.sigmoid()
    mask = gate / gate.flatten(1).norm(dim=1)[:, None, None, None]
    mask = mask - (gradient / (positions * gradient.square().sum(1, keepdim=True)).sqrt())[:, :, None, None]
    refined = torch.einsum("nchw,nc->nhw", features * mask, weights[labels])
    wanted = {"cam": cam, "grad-cam": cam.relu() / positions, "grcam": refined}
    for method, values in wanted.items():
        np.testing.assert_allclose(found.maps[method, "second"], values, atol=1e-5 * values.abs().max())


def test_at_the_last_layer_dgl_is_cam(network, images):
    found = maps.Mapper(network, ("dgl", "cam"), (0,))(images).maps
    assert set(found) == {("dgl", "second"), ("cam", "second")}
    for dual, cam in zip(found["dgl", "second"], found["cam", "second"], strict=True):
        ours, theirs = ((m - m.min()) / (m.max() - m.min()) for m in (dual, cam))
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_images_do_not_influence_each_other(network, images):
    together = maps.Mapper(network, ("dgl",), ("all",))(images).maps
    for number in range(3):
        alone = maps.Mapper(network, ("dgl",), ("all",))(images[number : number + 1]).maps
        for run, values in alone.items():
            np.testing.assert_allclose(together[run][number], values[0], atol=1e-5 * values.abs().max())


def test_classes_by_index_by_weight_and_the_best(network, images):
    mapper = maps.Mapper(network, ("dgl",), ("norm",))
    best = network(images).argmax(dim=1)
    by_index = mapper(images, best).maps["dgl", "norm"]
    np.testing.assert_array_equal(mapper(images).maps["dgl", "norm"], by_index)
    np.testing.assert_array_equal(mapper(images, F.one_hot(best, 5).float()).maps["dgl", "norm"], by_index)


# ---------------------------------------------------------------------------------------- what state the network is in


def test_the_network_is_left_as_it_was(network, images):
    network.first.weight.requires_grad_(False)
    before = {name: weight.requires_grad for name, weight in network.named_parameters()}
    values = {name: weight.clone() for name, weight in network.state_dict().items()}
    given = images.clone()
    maps.Mapper(network, ("dgl", "cam"), ("all",))(given)
    assert {name: weight.requires_grad for name, weight in network.named_parameters()} == before
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(values[name], weight) for name, weight in network.state_dict().items())
    assert torch.equal(given, images)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whatever_mode_the_caller_is_in(network, images, mode):
    expected = maps.Mapper(network, ("dgl",), ("norm",))(images).maps["dgl", "norm"]
    with mode():
        found = maps.Mapper(network, ("dgl",), ("norm",))(images + 0).maps["dgl", "norm"]
    np.testing.assert_array_equal(found, expected)


def test_the_graph_begins_at_the_earliest_layer(network, images):
    seen = []
    network.norm.register_forward_hook(
        lambda _m, inputs, output: seen.append((inputs[0].requires_grad, output.grad_fn))
    )
    maps.Mapper(network, ("dgl",), ("second.0",))(images)
    assert seen[0] == (False, None)


def test_weights_without_gradient(network, images):
    expected = maps.Mapper(network)(images).maps
    frozen = maps.Mapper(network.requires_grad_(False))(images).maps
    assert list(frozen) == list(expected)
    for run, values in expected.items():
        np.testing.assert_array_equal(frozen[run], values)


@pytest.mark.slow
def test_wrappers_are_looked_through(network, images):
    expected = maps.Mapper(network, ("dgl",), ("norm",))(images).maps["dgl", "norm"]
    for wrapped in (nn.DataParallel(network), torch.compile(network, backend="eager")):
        mapper = maps.Mapper(wrapped, ("dgl",), ("norm",))
        np.testing.assert_array_equal(mapper(images).maps["dgl", "norm"], expected)
        assert mapper.layers(images)[0].name == "second"
    network.compile(backend="eager")
    network(images)
    np.testing.assert_array_equal(maps.Mapper(network, ("dgl",), ("norm",))(images).maps["dgl", "norm"], expected)


def test_training_mode_is_refused(network, images):
    network.second.train()
    with pytest.raises(UserError, match=r"the network is in training mode \(second\). Call model.eval\(\) first"):
        maps.Mapper(network)
    with pytest.raises(UserError, match="training mode"):
        maps.evidence(network, images, ["norm"])


def test_scripted_networks_are_refused(network, images):
    with pytest.raises(UserError, match="TorchScript"):
        maps.Mapper(torch.jit.trace(network, images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_no_map(network, images, dtype):
    """Maps leave the caller's autocast, under which images may be of half precision; for others it goes on."""
    images = images.to(dtype)
    expected = maps.Mapper(network, ("dgl", "grad-cam", "grcam", "cam"), ("norm",))(images.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = maps.Mapper(network, ("dgl", "grad-cam", "grcam", "cam"), ("norm",))(images)
        assert network(images).dtype == torch.bfloat16
    assert torch.equal(found.scores, expected.scores)
    assert all(torch.equal(found.maps[run], values) for run, values in expected.maps.items())


def test_other_refusals(network, images):
    for classes in (torch.tensor([0, 1, 5]), torch.tensor([0, 1]), torch.ones(3, 4)):
        with pytest.raises(UserError, match="classes"):
            maps.Mapper(network)(images, classes)
    with pytest.raises(UserError, match="unknown method 'energy'; expected one of cam, grad-cam, dgl, grcam"):
        maps.Mapper(network, ("energy",))
    with pytest.raises(UserError, match="alpha 0"):
        maps.Mapper(network, alpha=0)
    with pytest.raises(UserError, match=r"the network returns a tensor \(3, 8, 6, 5\); expected scores"):
        maps.Mapper(network.second, layers=("0",))(torch.zeros(3, 6, 12, 10))


def test_a_network_that_cuts_its_own_graph(images):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, images):
            return self.head(self.first(images).detach().mean(dim=(2, 3)))

    with pytest.raises(UserError, match="no gradient leads from the scores back to first"):
        maps.Mapper(Cut().eval(), layers=("first",))(images)
