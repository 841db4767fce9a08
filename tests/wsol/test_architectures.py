import pytest

from common.system.errors import UserError
from wsol import command
from wsol.architectures import SPELLINGS, canonical, spelled_for


def test_every_spelling_has_one_name():
    spellings = [spelling for name in SPELLINGS for spelling in (name, *SPELLINGS[name])]
    assert len(spellings) == len(set(spellings))
    assert [canonical(name) for name in ("mobilenet", "mobilenetv1", "MobileNet_V1")] == ["mobilenet_v1"] * 3
    assert canonical("timm:mobilenetv1_100") == "timm:mobilenetv1_100"


def test_a_command_gets_its_own_spelling():
    assert spelled_for(command.OF_BAS, "mobilenet_v1") == "mobilenet"
    assert spelled_for(command.OF_DGL, "mobilenet_v1") == "mobilenetv1"
    assert spelled_for(command.OF_CAM, "timm:resnet18") == "timm:resnet18"
    with pytest.raises(UserError, match="no mobilenet_v1 here; expected one of vgg16"):
        spelled_for(("vgg16",), "mobilenet_v1")


def test_architectures_in_a_command_line():
    given = ["--arch", "mobilenet_v1", "--out", "resnet50", "--mode=inception_v3"]
    made = command.with_own_architectures(given, command.OF_BAS)
    assert made == ["--arch", "mobilenet", "--out", "resnet50", "--mode=inception"]


def test_the_spellings_are_the_commands():
    """Of what can be had without a framework."""
    assert all(canonical(name) in SPELLINGS for name in command.OF_BAS + command.OF_DGL + command.OF_CAM)
