"""Backbones that are built by timm, which not every environment holds."""

import pytest
import torch

from common.pytorch import backbones
from common.system.errors import UserError
from tests.common.pytorch.test_backbones import NAMES, PHOTOGRAPHS, photograph


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_efficientnet_lite0s_weights_know_what_photographs_show(path):
    model = backbones.build("efficientnet_lite0", 1000).eval()
    with torch.inference_mode():
        top5 = model(photograph(path, model)).scores[0].topk(5).indices.tolist()
    assert PHOTOGRAPHS[path] in [NAMES[index] for index in top5]


@pytest.mark.parametrize(("architecture", "channels"), [("efficientnet_lite0", 1280), ("timm:resnet18", 512)])
def test_maps(architecture, channels):
    model = backbones.build(architecture, 5, pretrained=False).eval()
    with torch.inference_mode():
        output = model(torch.randn(2, 3, 224, 224))
    assert output.scores.shape == (2, 5)
    assert output.features.shape == (2, channels, 7, 7)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "message"), [
    ("no_such_model", "timm can't make 'no_such_model'"), ("vit_tiny_patch16_224", "no feature map"),
    ("vgg11", "does not end in pooling and one linear layer"),
])  # fmt: skip
def test_unusable_models(name, message):
    with pytest.raises(UserError, match=message):
        backbones.build(f"timm:{name}", 5, pretrained=False).eval()(torch.zeros(1, 3, 224, 224))
