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
    assert seen == [(False, None)]


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


def test_mixed_precision_gives_nearly_the_same(network, images):
    """float32 maps, apart by at most 1 % of their span in the mean; a unit at its ReLU's zero may jump."""
    expected = maps.Mapper(network, ("dgl", "grcam"), ("norm",))(images).maps
    with torch.autocast("cpu", torch.bfloat16):
        found = maps.Mapper(network, ("dgl", "grcam"), ("norm",))(images).maps
    for run, values in expected.items():
        assert found[run].dtype == torch.float32
        assert (found[run] - values).abs().mean() <= 0.01 * (values.max() - values.min())


# ------------------------------------------------------------------------------------------------------ which layers


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
])  # fmt: skip
@pytest.mark.parametrize("method", list(maps.METHODS))
def test_probabilities_in_place_of_scores_are_refused(images, last, name, method):
    with pytest.raises(UserError, match=f"the network ends in a {name}; expected scores as they are before it"):
        maps.Mapper(Headed(nn.Linear(5, 4), last).eval(), (method,))(images)


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


# ----------------------------------------------------------------------------------------------------------- tokens


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


def test_maps_with_channels_last_are_noticed():
    network = nn.Sequential(
        nn.Conv2d(3, 40, 3, stride=2), nn.ReLU(), Last(), nn.Flatten(), nn.Linear(40 * 49, 3)
    ).eval()
    images = torch.randn(1, 3, 16, 16)
    with pytest.raises(UserError, match=r"the layer 2 gives \(1, 7, 7, 40\) for images"):
        maps.Mapper(network, layers=("2",))(images)
    found = maps.Mapper(network, layers=("2",), reshape=maps.channels_last)(images)
    np.testing.assert_allclose(
        found.maps["dgl", "2"], maps.Mapper(network, layers=("1",))(images).maps["dgl", "1"], atol=1e-6
    )
