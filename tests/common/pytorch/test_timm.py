"""Backbones that are built by timm, which not every environment holds."""

import copy

import pytest
import timm
import torch

from common.pytorch import backbones
from common.system.errors import UserError
from tests.common.pytorch.test_backbones import NAMES, PHOTOGRAPHS, photograph


@pytest.mark.slow
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_efficientnet_lite0s_weights_know_what_photographs_show(path):
    model = backbones.build("efficientnet_lite0", 1000).eval()
    with torch.inference_mode():
        top5 = model(photograph(path, model)).scores[0].topk(5).indices.tolist()
    assert PHOTOGRAPHS[path] in [NAMES[index] for index in top5]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "channels"), [("efficientnet_lite0", 1280), ("timm:resnet18", 512)])
def test_maps(architecture, channels):
    model = backbones.build(architecture, 5, pretrained=False).eval()
    with torch.inference_mode():
        output = model(torch.randn(2, 3, 224, 224))
    assert output.scores.shape == (2, 5)
    assert output.features.shape == (2, channels, 7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "test_resnet", "test_convnext", "test_nfnet", "test_efficientnet", "test_maxvit", "resnetv2_18",
])  # fmt: skip
def test_scores_are_timms_own(monkeypatch, name):
    """With a pretrained head; every norm's weights are drawn, so that one left out is seen. To 1e-4 of the spread."""
    trunk = drawn(name)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: copy.deepcopy(trunk))
    model = backbones.build(f"timm:{name}", 1000, pretrained=True).eval()
    images = torch.randn(2, 3, 160, 160) if trunk.default_cfg.get("fixed_input_size") else torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected, found = trunk(images), model(images).scores
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.std()))


def drawn(name: str) -> torch.nn.Module:
    trunk = timm.create_model(name).eval()
    generator = torch.Generator().manual_seed(1)
    for module in trunk.modules():
        if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm | torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)
    trunk.get_classifier().weight.data.normal_(generator=generator)
    return trunk


def test_channels_last_features_become_maps(monkeypatch):
    """Swin's features are (B, h, w, C); its scores are those of their mean."""
    trunk = timm.models.swin_transformer.SwinTransformer(img_size=64, window_size=2, embed_dim=12, depths=(1, 1, 1, 1),
                                                         num_heads=(1, 1, 1, 1), num_classes=7).eval()  # fmt: skip
    trunk.default_cfg = {"input_size": (3, 64, 64), "fixed_input_size": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: copy.deepcopy(trunk))
    model = backbones.build("timm:swin", 7, pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        output, expected = model(images), trunk(images)
    assert output.features.shape == (2, 96, 2, 2)
    torch.testing.assert_close(output.scores, expected)
    with pytest.raises(UserError, match="images of 96 x 64; expected 64 x 64, which alone it takes"):
        model(torch.zeros(1, 3, 64, 96))


def test_the_map_behind_a_norm_is_what_the_score_is_the_mean_of(monkeypatch):
    """ConvNeXt: score - constant = mean of the map / deviation of the pooled features, which is one for all classes."""
    trunk = drawn("test_convnext")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: trunk)
    model = backbones.build("timm:test_convnext", 1000, pretrained=True).eval()
    norm = model.features.trunk.head.norm
    with torch.inference_mode():
        scores, features = model(torch.randn(1, 3, 96, 96))
        classes = torch.arange(20)
        maps = model.class_activation_map(features.expand(20, -1, -1, -1), classes)
        constant = model.head.bias[:20] + model.head.weight[:20] @ norm.bias
        deviation = (features.mean(dim=(2, 3)).var(unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(maps.mean(dim=(1, 2)) / deviation, scores[0, :20] - constant, rtol=1e-3, atol=1e-3)


def test_building_draws_nothing_more_than_the_weights():
    """A probe that drew from the shared generator would change every training's order."""
    torch.manual_seed(0)
    backbones.build("timm:test_resnet", 5, pretrained=False)
    after = torch.rand(1)
    torch.manual_seed(0)
    timm.create_model("test_resnet")
    torch.nn.Linear(96, 5)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "message"), [
    ("no_such_model", "timm can't make 'no_such_model'"), ("test_vit", "no network for CAM: it has no feature map"),
    ("mobilenetv3_small_050", "there are layers between its features, 288 x 7 x 7, and its classifier's 1024"),
    ("levit_128s", "its classifier is NormLinear and NormLinear"),
])  # fmt: skip
def test_unusable_models(name, message):
    with pytest.raises(UserError, match=message):
        backbones.build(f"timm:{name}", 5, pretrained=False)


def test_a_head_of_other_classes_is_not_imagenets(monkeypatch):
    trunk = timm.create_model("test_resnet", num_classes=21)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: copy.deepcopy(trunk))
    with pytest.raises(UserError, match="has a head of 21 classes; expected ImageNet's 1000"):
        backbones.imagenet("timm:test_resnet")
    assert backbones.build("timm:test_resnet", 21).head.weight.shape == (21, 96)
