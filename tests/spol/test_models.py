import numpy as np
import pytest
import torch

from spol.models import BACKBONES, build, enlarged
from tests.spol import filled

RECORDED = [("net_cam_cub", "cam", 200, 256), ("net_cam_imagenet", "cam", 1000, 256), ("net_seg", "seg", 1, 224)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage", "classes", "side"), RECORDED)
@torch.inference_mode()
def test_every_part_is_the_recorded_one(golden, name, stage, classes, side):
    """The original's networks in eval mode; 1e-5 of each array's largest value."""
    recorded = golden(f"spol/{name}")
    network = filled.network(stage, classes).eval()
    images = filled.images(2, side, 1)
    trunk = network.bkbone
    stem = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(images))))
    features = trunk(images)
    gates, vector = network.attend(features)
    gated = [gate * feature for gate, feature in zip(gates, features, strict=True)]
    projected = network.project(features, gates)
    fused = network.fuse(images).fused
    found = {
        "input_sub": images[:, :, ::8, ::8],
        "mca_vector": vector.flatten(1),
        "fused_sub": fused[:, ::16, ::2, ::2],
        "fused_mean": fused.mean(dim=(2, 3)),
    }
    for stage_number, feature in zip((2, 3, 4, 5), (trunk.layer1(stem), *features), strict=True):
        step, spatial = (32, 64)[stage_number > 3], {2: 8, 3: 4, 4: 2, 5: 1}[stage_number]
        found[f"stage{stage_number}_sub"] = feature[:, ::step, ::spatial, ::spatial]
        found[f"stage{stage_number}_mean"] = feature.mean(dim=(2, 3))[:, ::16]
    for number, depth in enumerate((3, 4, 5)):
        found[f"gate{depth}"] = gates[number].flatten(1)[:, ::8]
        found[f"gated{depth}_mean"] = gated[number].mean(dim=(2, 3))[:, ::16]
        found[f"proj{depth}_sub"] = projected[number][:, ::16]
    output = network(images)
    if stage == "seg":
        found["logits"] = output
        found["prob_up_sub"] = enlarged(output, (224, 224)).sigmoid()[:, 0, ::3, ::3]
    else:
        step = int(recorded.pop("map_class_step"))
        found["map_sub"], found["pooled"] = output[:, ::step], output.mean(dim=(2, 3))
        labels = torch.tensor([3 * step, 5 * step])
        filled.close(network.label_maps(images, labels), recorded["map_sub"][[0, 1], [3, 5]], 1e-5)
    assert set(found) == set(recorded)
    for key, value in found.items():
        filled.close(value.reshape(recorded[key].shape), recorded[key], 1e-5, key)


@pytest.mark.slow
def test_names_and_sizes_are_the_released_ones():
    """368 entries; 24,915,976 parameters on CUB, 25,019,176 on ImageNet, 24,890,305 for segmentation."""
    for stage, classes, parameters in (("cam", 200, 24_915_976), ("cam", 1000, 25_019_176), ("seg", 1000, 24_890_305)):
        network = build(stage, classes)
        assert len(network.state_dict()) == 368
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    modules = [name for name, _ in network.named_children()]
    assert modules[:17] == ["bkbone", "fc51", "bn51", "fc52", "fc41", "bn41", "fc42", "fc31", "bn31", "fc32", "linear5", "bn5", "linear4", "bn4", "linear3", "bn3", "linear"]  # fmt: skip


def test_fresh_layers_are_kaimings():
    torch.manual_seed(0)
    network = build("cam", 200)
    assert float(network.fc52.weight.std()) == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert float(network.linear5.weight.std()) == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert all(float(network.part(name).bias.abs().max()) == 0 for name in ("fc51", "fc32", "linear4", "linear"))


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side"), [("mobilenet_v1", 64), ("resnet101", 32)])
def test_other_backbones_have_the_same_strides(backbone, side):
    network = build("seg", backbone=backbone).eval()
    features = network.bkbone(torch.zeros(1, 3, side, side))
    assert [side // feature.shape[2] for feature in features] == [8, 16, 32]
    assert network(torch.zeros(1, 3, side, side)).shape == (1, 1, side // 8, side // 8)


def test_mobilenet_sees_what_its_weights_expect():
    """Pixels 0 and 255, normalized with ImageNet's mean and deviation, reach the first convolution as -1 and 1."""
    trunk, seen = build("cam", 3, "mobilenet_v1").bkbone.eval(), []
    trunk.features.conv_0.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    black_and_white = torch.from_numpy(
        np.stack([filled.normalized(np.full((32, 32, 3), grey, np.uint8)) for grey in (0, 255)])
    )
    trunk(black_and_white.permute(0, 3, 1, 2))
    np.testing.assert_allclose(seen[0][:, :, 0, 0], [[-1] * 3, [1] * 3], atol=1e-5)


@torch.inference_mode()
def test_the_head_relu_can_be_turned_off():
    torch.manual_seed(1)
    images = filled.images(1, 64, 3)
    torch.manual_seed(0)
    released = build("cam", 5, "mobilenet_v1").eval()
    torch.manual_seed(0)
    plain = build("cam", 5, "mobilenet_v1", head_relu=False).eval()
    assert float(plain(images).min()) < 0
    torch.testing.assert_close(released(images), plain(images).relu())


def test_refusals():
    with pytest.raises(ValueError, match="expected cam or seg"):
        build("cls")
    with pytest.raises(ValueError, match="unknown backbone 'vgg', expected one of " + ", ".join(BACKBONES)):
        build("cam", 3, "vgg")
