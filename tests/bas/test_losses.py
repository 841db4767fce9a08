import pytest
import torch

from bas import losses
from bas.config import RECIPES, VARIANTS, recipe
from bas.network import Output


@pytest.mark.parametrize(("variant", "arch", "expected"), [
    ("CUB", "resnet", [0.5, 0.0, 0.0, 0.0]),
    ("ILSVRC", "resnet", [0.5, 1.0, 0.0, 0.0]),
    ("EXT", "resnet", [0.5, 1.0, 1.0, 0.0]),
    ("EXT", "vgg", [0.5, 1.0, 0.0, 0.0]),
])  # fmt: skip
def test_the_ratio_where_suppression_does_not_help(variant, arch, expected):
    """S_bg below, at and above S; and both zero, which gives zero."""
    activation, background = torch.tensor([2.0, 2.0, 2.0, 0.0]), torch.tensor([1.0, 2.0, 3.0, 0.0])
    ratio = losses.background_ratio(activation, background, VARIANTS[variant], arch)
    assert ratio.tolist() == pytest.approx(expected, abs=1e-6)


def test_an_activation_of_nearly_zero_is_divided_by_a_little_more():
    """5e-9 / (1e-8 + 1e-8); 0.0001 of it."""
    ratio = losses.background_ratio(torch.tensor([1e-8]), torch.tensor([5e-9]), VARIANTS["CUB"], "resnet")
    assert ratio.item() == pytest.approx(0.25, rel=1e-4)


def test_the_constant_has_no_gradient():
    background = torch.tensor([1.0, 3.0], requires_grad=True)
    activation = torch.tensor([2.0, 2.0], requires_grad=True)
    losses.background_ratio(activation, background, VARIANTS["EXT"], "resnet").sum().backward()
    assert background.grad.tolist() == [0.5, 0.0]
    assert activation.grad is None


def test_ext_rectifies_its_scores():
    ratio = losses.background_ratio(torch.tensor([2.0]), torch.tensor([-1.0]), VARIANTS["EXT"], "resnet")
    assert ratio.item() == 0.0
    assert losses.background_ratio(torch.tensor([2.0]), torch.tensor([-1.0]), VARIANTS["CUB"], "resnet").item() == -0.5


def test_the_sum_by_hand():
    labels = torch.tensor([0])
    output = Output(
        scores=torch.tensor([[1.0, 1.0]]),
        foreground_map=torch.full((1, 1, 2, 2), 0.25),
        features=torch.empty(0),
        class_maps=torch.empty(0),
        guided_scores=torch.tensor([[0.0, 0.0]]),
        activation=torch.tensor([1.0]),
        background_activation=torch.tensor([0.5]),
    )
    values = losses.total(output, labels, VARIANTS["CUB"], "resnet", alpha=0.5, beta=2.0)
    entropy = 0.6931472
    assert values["loss"].item() == pytest.approx(entropy + 0.5 * entropy + 0.5 + 2.0 * 0.25, abs=1e-6)
    without = losses.total(output, labels, VARIANTS["CUB"], "vgg", alpha=0.0, beta=2.0)
    assert "frg" not in without
    assert without["loss"].item() == pytest.approx(entropy + 0.5 + 0.5, abs=1e-6)
    higher = output._replace(background_activation=torch.tensor([1.5]))
    for arch, constant in (("resnet", 1.0), ("vgg", 0.0)):
        assert losses.total(higher, labels, VARIANTS["EXT"], arch, alpha=0.5, beta=2.0)["bas"].item() == constant


def test_recipes():
    assert recipe("CUB", "cub", "mobilenet").beta == 1.5
    assert (recipe("CUB", "cub", "vgg").top_k, recipe("CUB", "cub", "inception").threshold) == (80, 0.10)
    assert (recipe("ILSVRC", "ilsvrc", "resnet").batch_size, recipe("ILSVRC", "ilsvrc", "resnet").bn_chunks) == (128, 4)
    assert recipe("EXT", "ilsvrc", "vgg").batch_size == 256
    assert recipe("EXT", "openimages", "resnet").epochs == 120  # the loop's; the table says 50
    assert recipe("CUB", "demo", "resnet") == recipe("CUB", "cub", "resnet")
    with pytest.raises(ValueError, match="no EXT recipe for 'vgg' on openimages, expected one of resnet"):
        recipe("EXT", "openimages", "vgg")
    assert {arch for table in RECIPES.values() for arch in table} == {"vgg", "mobilenet", "resnet", "inception"}
