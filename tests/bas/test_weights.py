import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from bas import weights
from bas.backbones import build
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import checkpoints
from common.pytorch.backbones import TORCHVISION_FILES
from common.pytorch.mobilenet_v1 import MobileNetV1Features, from_tf_slim
from common.system.errors import UserError
from common.weights import load_mobilenet_v1
from tests.bas import filled


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "arch"), filled.ALL)
def test_released_files_load_as_they_are(tmp_path, variant, arch):
    """Written as the release writes them: legacy format; ILSVRC under `module.` with stale copies; EXT in a dict."""
    network = filled.network(variant, arch, classes=4)
    weights.export(network, arch, tmp_path / "released.pth.tar", epoch=7, threshold=0.1)
    if variant == "ILSVRC":
        content = torch.load(tmp_path / "released.pth.tar", weights_only=True)
        stale = [name for name in content if "_copy" in name or "erase_branch" in name]
        assert stale
        for name in stale:
            content[name] = torch.zeros_like(content[name])
        torch.save(content, tmp_path / "released.pth.tar", _use_new_zipfile_serialization=False)
    loaded = weights.load(tmp_path / "released.pth.tar")
    assert (loaded.arch, loaded.variant, loaded.class_names) == (arch, variant, None)
    assert equal(loaded.network.state_dict(), network.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("data", "options", "threshold"), [
    ("cub", [], 0.1), ("ilsvrc", [], 0.5), ("folder", [], 0.1), ("ilsvrc", ["--threshold", "0.35"], 0.35),
])  # fmt: skip
def test_ext_files_hold_the_threshold_of_the_data_set(tmp_path, monkeypatch, data, options, threshold):
    """EXT's released thresholds of MobileNet: 0.1 on CUB, 0.5 on ILSVRC."""
    network = filled.network("EXT", "mobilenet", classes=2)
    config = {"method": "bas", "architecture": "mobilenet", "variant": "EXT", "class_names": ["a", "b"],
              "trained_on": {"name": data}}  # fmt: skip
    checkpoints.write(tmp_path / "final.pth", {"config": config, "model": network.state_dict()})
    arguments = [str(tmp_path / "final.pth"), str(tmp_path / "ext.pth"), "--epoch", "9", *options]
    monkeypatch.setattr(sys, "argv", ["weights", *arguments])
    weights.main()
    content = torch.load(tmp_path / "ext.pth", weights_only=True)
    assert (content["best_thr"], content["epoch"]) == (threshold, 9)


@pytest.mark.slow
@pytest.mark.parametrize(("wrap", "variant", "said"), [
    (lambda s: s, "CUB", False),
    (lambda s: {f"module.{name}": value for name, value in s.items()}, "CUB", True),
    (lambda s: {"net": s, "acc": 0.9}, "CUB", True),
    (lambda s: {"model": s, "epoch": 3}, "CUB", True),
    (lambda s: {"model": s, "epoch": 3, "best_thr": 0.1}, "EXT", False),
    (lambda s: {"model": {f"module.{name}": value for name, value in s.items()}, "best_thr": 0.1}, "EXT", False),
    (lambda s: {**s, "erase_branch.13.0.weight": s["model.13.0.weight"]}, "ILSVRC", False),
])  # fmt: skip
def test_the_variant_is_told_by_what_its_release_alone_writes(tmp_path, capsys, wrap, variant, said):
    network = filled.network("CUB", "mobilenet", classes=3)
    torch.save(wrap(dict(network.state_dict())), tmp_path / "x.pth")
    loaded = weights.load(tmp_path / "x.pth")
    assert loaded.variant == variant
    assert equal(loaded.network.state_dict(), network.state_dict())
    assert ("says nothing of its variant, and is taken as CUB's" in capsys.readouterr().out) == said
    if said:
        assert weights.load(tmp_path / "x.pth", variant="EXT").variant == "EXT"


@pytest.mark.slow
def test_our_checkpoint_in_the_authors_format(tmp_path):
    network = filled.network("ILSVRC", "mobilenet", classes=3)
    config = {
        "method": "bas",
        "architecture": "mobilenet",
        "variant": "ILSVRC",
        "class_names": ["a", "b", "c"],
        "options": {},
    }
    checkpoints.write(tmp_path / "final.pth", {"config": config, "model": network.state_dict()})
    done = subprocess.run(
        [sys.executable, "-m", "bas.weights", tmp_path / "final.pth", tmp_path / "mobilenet8_final.pth.tar"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = torch.load(tmp_path / "mobilenet8_final.pth.tar", weights_only=True)
    assert len(content) == 200
    assert torch.equal(content["module.erase_branch.13.0.weight"], network.model[13][0].weight)
    assert weights.load(tmp_path / "final.pth").class_names == ("a", "b", "c")


@pytest.mark.slow
def test_ext_files_of_ilsvrc_carry_module(tmp_path):
    network = filled.network("EXT", "vgg", classes=4)
    content = {
        "model": {f"module.{name}": value for name, value in network.state_dict().items()},
        "best_thr": 0.1,
        "epoch": 3,
    }
    torch.save(content, tmp_path / "best_loc.pth.tar")
    assert equal(weights.load(tmp_path / "best_loc.pth.tar").network.state_dict(), network.state_dict())


@pytest.mark.slow
def test_inceptions_head_under_either_name(tmp_path):
    network = filled.network("EXT", "inception", classes=4)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    loaded = weights.load(tmp_path / "x.pth", variant="CUB")
    assert torch.equal(loaded.network.classifier[4].weight, network.classifier_cls[4].weight)


@pytest.mark.parametrize(("content", "message"), [
    ({"a": torch.zeros(1)}, "none of the four BAS networks"),
    ({"conv5_3.weight": torch.zeros(1)}, "no generator in this checkpoint"),
    ({"conv5_3.weight": torch.zeros(1), "classifier_loc.0.weight": torch.zeros(4, 1)}, "of another network: 32 missing"),
    ([1, 2], "no state dict"),
    ({"format": 1, "config": {"method": "cam"}, "model": {}}, "a checkpoint of 'cam'"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        weights.load(tmp_path / "x.pth")


class Hostile:
    def __reduce__(self):
        return print, ("this must never run",)


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": Hostile()}))
    with pytest.raises(UserError, match="loading that would run code"):
        weights.load(tmp_path / "x.pth")
    assert "never" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_asked_for_must_be_what_is_there(tmp_path):
    weights.export(filled.network("CUB", "mobilenet", classes=4), "mobilenet", tmp_path / "x.pth", 0, 0.1)
    with pytest.raises(UserError, match="architecture is mobilenet; expected vgg"):
        weights.load(tmp_path / "x.pth", arch="vgg")
    with pytest.raises(UserError, match="there already"):
        weights.export(filled.network("CUB", "mobilenet", classes=4), "mobilenet", tmp_path / "x.pth", 0, 0.1)


def test_tf_slims_network_in_this_one():
    """Blocks 0 to 5 give Slim's numbers, away from the border; block 6 has another stride."""
    arrays = load_mobilenet_v1()
    slim = MobileNetV1Features(output_stride=16).eval()
    slim.load_state_dict(from_tf_slim(arrays)[0])
    ours = build("mobilenet", "CUB", 3, slim=True).eval()
    weights.start_from(ours, "mobilenet", "tf-slim")
    pixels = torch.rand(1, 3, 224, 224)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = nn.Sequential(*list(slim.children())[:11])(pixels * 2 - 1)
        found = ours.model[:6]((pixels - mean) / deviation)
    assert expected.max() == 6
    torch.testing.assert_close(found[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="no TF-Slim details for 'vgg'"):
        build("vgg", slim=True)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["vgg", "resnet", "inception"])
def test_torchvisions_files_fill_the_backbone(tmp_path, monkeypatch, arch):
    """A file of that name, made from torchvision's own module, under the older name that the release uses."""
    from torchvision import models

    torch.manual_seed(0)
    made = {"vgg": models.vgg16, "resnet": models.resnet50, "inception": models.inception_v3}[arch](
        weights=None, **({"init_weights": False} if arch == "inception" else {})
    )
    torch.save(made.state_dict(), tmp_path / TORCHVISION_FILES[weights.TORCHVISION[arch]][-1])
    monkeypatch.setenv("WSOL_WEIGHTS", str(tmp_path))
    network = build(arch, "CUB", 3)
    weights.start_from(network, arch, "imagenet")
    state, theirs = network.state_dict(), made.state_dict()
    pairs = {
        "vgg": [("conv1_1.weight", "features.0.weight"), ("conv3_3.bias", "features.14.bias"), ("conv5_3.weight", "features.28.weight")],
        "resnet": [("conv1.weight", "conv1.weight"), ("layer4.0.downsample.0.weight",) * 2],
        "inception": [("Mixed_6a.branch3x3.conv.weight",) * 2, ("Mixed_7c.branch_pool.bn.running_var",) * 2],
    }[arch]  # fmt: skip
    for ours, name in pairs:
        assert torch.equal(state[ours], theirs[name])
    if arch == "vgg":
        assert state["classifier_loc.0.weight"].std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.slow
def test_mobilenets_file_fills_the_backbone(tmp_path, monkeypatch):
    donor = filled.network("CUB", "mobilenet", classes=3)
    names = {name.removeprefix("model."): value for name, value in donor.state_dict().items()
             if name.startswith("model.") and not name.endswith("num_batches_tracked")}  # fmt: skip
    assert len(names) == 135
    torch.save(names, tmp_path / "mobilenet_v1_with_relu_69_5.pth")
    monkeypatch.setenv("WSOL_WEIGHTS", str(tmp_path))
    network = build("mobilenet", "CUB", 3)
    weights.start_from(network, "mobilenet", "imagenet")
    assert torch.equal(network.model[13][3].weight, donor.model[13][3].weight)
    torch.save({"0.0.weight": names["0.0.weight"]}, tmp_path / "mobilenet_v1_with_relu_69_5.pth")
    with pytest.raises(UserError, match="lack 134 tensors"):
        weights.start_from(network, "mobilenet", "imagenet")


def test_weights_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setenv("WSOL_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"Put mobilenet_v1_with_relu_69_5\.pth .* into .*, or take MobileNetV1"):
        weights.start_from(build("mobilenet", "CUB", 3), "mobilenet", "imagenet")
    with pytest.raises(UserError, match=r"Put vgg16-397923af\.pth"):
        weights.start_from(build("vgg", "CUB", 3), "vgg", "imagenet")
