import hashlib
import zlib

import numpy as np
import pytest
import torch

from bas import losses
from bas.backbones import build
from bas.config import VARIANTS, recipe
from bas.network import halved
from bas.weights import _copies
from tests.bas import filled

RELEASED_NAMES = {
    ("CUB", "vgg"): (34, "e8693f0a4ed9c8a8"),
    ("CUB", "mobilenet"): (170, "1bfdf26c8d29243f"),
    ("CUB", "resnet"): (326, "f8a3e636fa5c41ee"),
    ("CUB", "inception"): (572, "ec65be8b97ce8409"),
    ("ILSVRC", "vgg"): (46, "4502b3604142210e"),
    ("ILSVRC", "mobilenet"): (200, "3dbfcf2ac8837d36"),
    ("ILSVRC", "resnet"): (392, "80af6f457a490ac3"),
    ("ILSVRC", "inception"): (722, "99f5f536b3b299c6"),
    ("EXT", "vgg"): (34, "e8693f0a4ed9c8a8"),
    ("EXT", "mobilenet"): (170, "1bfdf26c8d29243f"),
    ("EXT", "resnet"): (326, "f8a3e636fa5c41ee"),
    ("EXT", "inception"): (572, "4858d4aa93d1a4a2"),
}
"""How many entries the released state dicts have, and the sha256 of their names and shapes."""


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "arch"), filled.ALL)
def test_names_and_shapes_are_the_released_ones(variant, arch):
    state = build(arch, variant).state_dict()
    if variant == "ILSVRC":
        state = {f"module.{name}": value for name, value in {**state, **_copies(state, arch)}.items()}
    rows = sorted(f"{name} {'x'.join(map(str, value.shape)) or 'scalar'}" for name, value in state.items())
    assert (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]) == RELEASED_NAMES[variant, arch]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "arch"), filled.ALL)
@torch.no_grad()
def test_outputs_are_the_recorded_ones(variant, arch):
    """Tolerance 1e-5 of each array's greatest value; the released code itself differs from float64 by 3e-6."""
    recorded = filled.golden("networks", f"{variant}_{arch}_")
    network = filled.network(variant, arch).eval()
    labels = torch.from_numpy(recorded["labels"])
    output = network(filled.images(2, seed=1), labels)
    tops = {top_k: network.foreground_map(output.features, output.scores, None, top_k) for top_k in (5, 80)}
    settings = recipe(variant, "ilsvrc" if variant == "ILSVRC" else "cub", arch)
    values = losses.total(output, labels, VARIANTS[variant], arch, settings.alpha, settings.beta)
    ratio = losses.background_ratio(output.activation, output.background_activation, VARIANTS[variant], arch)
    found = {
        "score_1": output.scores,
        "score_2": output.guided_scores,
        "S": output.activation,
        "S_bg": output.background_activation,
        "map_gt": output.foreground_map[..., ::3, ::3],
        "map_top5": tops[5][..., ::3, ::3],
        "map_top80": tops[80][..., ::3, ::3],
        "features": output.features[:, ::32, ::4, ::4][:, ::4],
        "every_map": network.every_map(output.features)[:, ::40, ::2, ::2][:, :, ::3, ::3],
        "loss_ratio": ratio,
        "loss_area": output.foreground_map.mean(dim=(1, 2, 3)),
        "loss_bas_plus_area": values["bas"] + settings.beta * values["area"],
        "loss_total": values["loss"],
    }
    assert set(recorded) == {*found, "labels"}
    for name, tensor in found.items():
        np.testing.assert_allclose(
            tensor, recorded[name], rtol=0, atol=1e-5 * np.abs(recorded[name]).max(), err_msg=name
        )


@pytest.fixture(scope="module")
def small():
    return filled.network("CUB", "mobilenet", classes=6)


def test_one_classs_map_is_that_of_the_whole_convolution(small):
    features = torch.randn(3, 512, 9, 11)
    labels = torch.tensor([5, 0, 5])
    one = small.foreground_map(features, None, labels, None)
    torch.testing.assert_close(one[:, 0], small.every_map(features)[torch.arange(3), labels], rtol=1e-5, atol=1e-6)


def test_unused_classes_get_zeros_for_a_gradient_not_nothing(small):
    small.zero_grad()
    small.foreground_map(torch.randn(2, 512, 8, 8), None, torch.tensor([1, 4]), None).sum().backward()
    rows = small.classifier_loc[0].weight.grad.flatten(1).norm(dim=1)
    assert [index for index, row in enumerate(rows) if row > 0] == [1, 4]


def test_top_k_takes_equal_scores_in_the_classes_order(small):
    features = torch.randn(1, 512, 8, 8)
    scores = torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    maps = small.every_map(features)
    for top_k, classes in ((1, [1]), (3, [0, 1, 2]), (6, range(6)), (99, range(6))):
        torch.testing.assert_close(
            small.foreground_map(features, scores, None, top_k)[:, 0], maps[:, list(classes)].mean(dim=1)
        )


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["vgg", "mobilenet", "resnet", "inception"])
@pytest.mark.parametrize("side", [64, 97])
@torch.no_grad()
def test_any_input_size_and_class_count(arch, side):
    output = build(arch, "CUB", 3).eval()(torch.randn(2, 3, side, side), torch.tensor([0, 2]))
    assert output.scores.shape == output.guided_scores.shape == (2, 3)
    assert output.foreground_map.shape == (2, 1, *output.features.shape[2:])
    assert torch.isfinite(output.guided_scores).all()


@pytest.mark.parametrize(("side", "classes_side", "last"), [(28, 14, None), (5, 2, None), (5, 3, 24.0)])
def test_a_foreground_map_is_halved_by_whole_windows(side, classes_side, last):
    """AvgPool2d(2, 2); what is left over of odd sides is dropped behind a pool and kept behind strided convolutions."""
    maps = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    found = halved(maps, torch.zeros(1, 7, classes_side, classes_side))
    by_hand = maps[0, 0, : side // 2 * 2, : side // 2 * 2].view(side // 2, 2, side // 2, 2).mean(dim=(1, 3))
    assert found.shape == (1, 1, classes_side, classes_side)
    assert torch.equal(found[0, 0, : side // 2, : side // 2], by_hand)
    if classes_side * 2 > side:
        assert found[0, 0, -1, -1] == last


def test_vgg_begins_as_each_release_begins():
    """N(0, 0.02) for head and generator, on ILSVRC whether or not ImageNet's weights are loaded."""
    torch.manual_seed(0)
    for variant, width in (("ILSVRC", 0.02), ("CUB", 1 / (3 * 512 * 9) ** 0.5)):
        network = build("vgg", variant, 4)
        for layer in (network.classifier_cls[0], network.classifier_loc[0]):
            assert layer.weight.std().item() == pytest.approx(width, rel=0.05)
            assert layer.bias.abs().max() > 0


def gradient_reaches(network, value):
    """Which parts get a gradient from a scalar: f1, f2, head or generator."""
    network.zero_grad()
    value.backward(retain_graph=True)
    own = (*network.SECOND_HALF, network.head_name)
    reached = set()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().sum() > 0:
            reached.add("generator" if "_loc" in name else "f2" if name.startswith(own) else "f1")
    return reached


@pytest.mark.slow
def test_where_each_loss_sends_its_gradient(small):
    """The heart of the method: L_BAS trains the generator and f1 through it, and never f2."""
    labels = torch.tensor([1, 4])
    output = small.train()(filled.images(2, seed=3, side=64), labels)
    ratio = output.background_activation / (output.activation.detach() + 1e-8)
    assert gradient_reaches(small, ratio.mean()) == {"f1", "generator"}
    assert gradient_reaches(small, losses.area_constraint(output.foreground_map)) == {"f1", "generator"}
    assert gradient_reaches(small, losses.classification(output.scores, labels)) == {"f1", "f2"}
    guidance = losses.foreground_region_guidance(output.guided_scores, labels)
    assert gradient_reaches(small, guidance) == {"f1", "f2", "generator"}


def test_the_suppressed_pass_sends_nothing_to_the_features(small):
    """f1 hears of L_BAS through the generator's input alone; with the map held fixed there is no gradient at all."""
    features = small.extract(filled.images(2, seed=3, side=64))
    mask = torch.rand(2, 1, *features.shape[2:], requires_grad=True)
    maps = small.classify_frozen(features.detach() * (1 - mask))
    small.zero_grad()
    maps.sum().backward()
    assert mask.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in small.parameters())


@pytest.mark.slow
def test_running_statistics_see_the_clean_pass_alone():
    network = filled.network("CUB", "mobilenet", classes=6).train()
    other = filled.network("CUB", "mobilenet", classes=6).train()
    pixels = filled.images(2, seed=3, side=64)
    network(pixels, torch.tensor([1, 4]))
    other.localize(pixels, torch.tensor([1, 4]))
    for (name, ours), theirs in zip(network.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_channels_last_changes_nothing(small):
    small.eval()
    pixels, labels = filled.images(2, seed=3, side=64), torch.tensor([1, 4])
    with torch.no_grad():
        plain = small(pixels, labels)
        last = small.to(memory_format=torch.channels_last)(pixels.to(memory_format=torch.channels_last), labels)
    small.to(memory_format=torch.contiguous_format)
    for one, two in zip(plain, last, strict=True):
        torch.testing.assert_close(one, two.contiguous(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_step_compiles_as_one_graph(small):
    """Traced with its gradient and run without a C++ compiler."""
    small.train()
    pixels, labels = filled.images(2, seed=3, side=64), torch.tensor([1, 4])
    state = {name: value.clone() for name, value in small.state_dict().items()}
    plain = small(pixels, labels)
    small.load_state_dict(state)
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)(pixels, labels)
    small.load_state_dict(state)
    for one, two in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown architecture 'alexnet'"):
        build("alexnet")
    with pytest.raises(ValueError, match="unknown variant 'VOC'"):
        build("vgg", "VOC")


@pytest.mark.slow
def test_the_fill_rule_is_the_recorded_one():
    """First value of a kernel, by hand from the rule."""
    state = filled.network("CUB", "mobilenet", classes=6).state_dict()
    drawn = np.random.RandomState((zlib.crc32(b"model.0.0.weight") + 11) % 2**32).standard_normal()
    assert state["model.0.0.weight"][0, 0, 0, 0].item() == pytest.approx(drawn * np.sqrt(2 / 27))


@pytest.mark.slow
def test_the_generators_gradient_is_the_same_each_time():
    """Bit for bit on two threads: images of one label add to one gradient, and in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network = build("mobilenet", "CUB", 8)
        generator = network.classifier_loc[0]
        features = torch.rand(32, generator.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
        gradients = []
        for _ in range(20):
            generator.weight.grad = None
            network.foreground_map(features, None, torch.arange(32) % 2, None).square().sum().backward()
            gradients.append(generator.weight.grad)
        assert all(torch.equal(gradients[0], other) for other in gradients)
    finally:
        torch.set_num_threads(threads)
