from dataclasses import dataclass
from typing import Literal

import pytest

from common.system.architectures import SPELLINGS, canonical, spelled_for, title
from common.system.errors import UserError
from common.system.options import parse
from common.tensorflow_files.architectures import ARCHITECTURES

OF_BAS = ("vgg", "mobilenet", "resnet", "inception")


def test_every_spelling_has_one_name():
    spellings = [spelling for name in SPELLINGS for spelling in (name, *SPELLINGS[name])]
    assert len(spellings) == len(set(spellings))
    assert [canonical(name) for name in ("mobilenet", "mobilenetv1", "MobileNet_V1")] == ["mobilenet_v1"] * 3
    assert canonical("timm:mobilenetv1_100") == "timm:mobilenetv1_100"
    assert all(canonical(name) in SPELLINGS for name in OF_BAS + ARCHITECTURES)


def test_results_carry_one_name():
    assert title("mobilenetv1 Conv2d_9") == "mobilenet_v1 Conv2d_9"
    assert [title("vgg"), title("unknown")] == ["vgg16", "unknown"]


def test_a_command_gets_its_own_spelling():
    assert spelled_for(OF_BAS, "mobilenet_v1") == "mobilenet"
    assert spelled_for(ARCHITECTURES, "mobilenet_v1") == "mobilenetv1"
    assert spelled_for(("vgg16",), "timm:resnet18") == "timm:resnet18"
    with pytest.raises(UserError, match="no mobilenet_v1 here; expected one of vgg16"):
        spelled_for(("vgg16",), "mobilenet_v1")


def parsed(monkeypatch, options, *arguments, **more):
    monkeypatch.setattr("sys.argv", ["x", *arguments])
    return parse(options, prog="x", description="What it does.", **more)


def test_architectures_in_a_command_line(monkeypatch):
    """Choices of a field, of one command or of several; named ones of a field without choices; nothing but these."""

    @dataclass(frozen=True)
    class Chosen:
        arch: Literal["vgg", "mobilenet", "inception"] | None = None
        mode: Literal["train", "val"] = "train"
        out: str = ""
        load: str = ""

    @dataclass(frozen=True)
    class Free:
        arch: str = "mobilenet_v1"

    several = {"one": Chosen, "other": Free}
    assert parsed(monkeypatch, Chosen, "--arch", "mobilenet_v1", "--out", "vgg16") == Chosen("mobilenet", out="vgg16")
    assert parsed(monkeypatch, Chosen, "--arch=inception_v3", "--mode", "val") == Chosen("inception", "val")
    assert parsed(monkeypatch, Chosen, "--load", "imagenet:mobilenet_v1") == Chosen(load="imagenet:mobilenet")
    other = "imagenet:efficientnet_lite0"  # which the command's --arch has not
    assert parsed(monkeypatch, Chosen, "--load", other) == Chosen(load=other)
    assert parsed(monkeypatch, several, "one", "--arch", "VGG16") == Chosen("vgg")
    assert parsed(monkeypatch, Free, "--arch", "vgg", architectures=["mobilenet_v1", "vgg16"]) == Free("vgg16")
    assert parsed(monkeypatch, Free, "--arch", "timm:vgg", architectures=["vgg16"]) == Free("timm:vgg")
    with pytest.raises(UserError, match="no resnet50 here; expected one of inception, mobilenet, vgg"):
        parsed(monkeypatch, Chosen, "--arch", "resnet50")
