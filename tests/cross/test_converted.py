"""A network that grcam.from_cam converts: every command shows it images at the side of its training, by its classes."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")

from common.datasets import DataSource  # noqa: E402
from common.pytorch import backbones, cam, checkpoints  # noqa: E402
from common.pytorch.maps import localize as maps_localize  # noqa: E402
from common.runs.reader import Predictions  # noqa: E402
from common.system.errors import UserError  # noqa: E402
from common.tensorflow_files import converted  # noqa: E402
from dgl_tf.test import Localize, localize  # noqa: E402
from grcam.from_cam import FromCam, convert  # noqa: E402
from grcam.generate_predicted_bbox import Generate, generate  # noqa: E402
from tests import small_cub  # noqa: E402
from tests.bas.filled import fill_network  # noqa: E402

SIDE = 96


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A MobileNetV1 that was trained at 96 pixels, its classes in another order than the data set's."""
    folder = tmp_path_factory.mktemp("converted")
    model = backbones.build("mobilenet_v1", 3, pretrained=False).eval()
    with torch.no_grad():
        fill_network(model, 0, 2.0)
    config = {
        "method": "cam", "architecture": "mobilenet_v1", "class_names": list(reversed(small_cub.CLASSES)),
        "trained_on": {"name": "cub"}, "options": {"augmentation": {"resize": 110, "crop": SIDE}, "seed": 6},
    }  # fmt: skip
    checkpoints.write(folder / "final.pth", {"config": config, "model": model.state_dict()})
    data = DataSource("cub", small_cub.make(folder / "CUB", train=1, test=1))
    return folder / "final.pth", convert(FromCam(folder / "final.pth", folder / "a.npz")), data


@pytest.fixture(scope="module")
def by_torch(made, tmp_path_factory):
    checkpoint, _, data = made
    out = tmp_path_factory.mktemp("cam")
    cam.localize(cam.Localize(
        checkpoint=str(checkpoint), data=data, out=out, resize="tensorflow1", frames=("squash",), workers=0
    ))  # fmt: skip
    return Predictions.open(out / "squash")


def the_same(found: Predictions, expected: Predictions) -> None:
    """Maps within 0.02, probabilities within 1e-4: DGL divides pixels before it subtracts the mean."""
    for one, other in zip(found.entries, expected.entries, strict=True):
        assert (one.image_id, one.label, one.top5) == (other.image_id, other.label, other.top5)
        np.testing.assert_allclose(one.top5_scores, other.top5_scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.map(one), expected.map(other), rtol=0, atol=0.02)


@pytest.mark.slow
def test_dgl_sees_what_the_training_saw(made, by_torch, tmp_path, capsys):
    _, npz, data = made
    asked = Localize(load=str(npz), data=data, out=tmp_path, mode="mobilenetv1", methods=("cam",))
    (directory,) = localize(asked)
    the_same(Predictions.open(directory), by_torch)
    assert "note: the network sees 96 x 96 pixels, as in its training" in capsys.readouterr().out
    assert Predictions.open(directory).manifest["options"]["image_size"] == SIDE
    assert Predictions.open(directory).manifest["checkpoint"]["training"]["seed"] == 6
    localize(replace(asked, image_size=224, crops=1, out=tmp_path / "large"))
    assert "note: the network sees 224 x 224 pixels, and was trained at 96" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["tensorflow", "torch"])
def test_grcam_sees_what_the_training_saw(made, by_torch, tmp_path, framework):
    _, npz, data = made
    generate(Generate(
        load=str(npz), data=data, out=tmp_path / "out", mode="mobilenetv1", cam=True, framework=framework,
        bounding_box_save_path=f"{tmp_path}/boxes/", classify_save_path=tmp_path / "class.txt",
    ))  # fmt: skip
    found = Predictions.open(tmp_path / "out/cam-squash")
    the_same(found, by_torch)
    assert found.manifest["options"]["input_size"] == SIDE
    assert found.manifest["checkpoint"]["training"] == by_torch.manifest["checkpoint"]["training"]


@pytest.mark.slow
def test_maps_of_any_classifier_see_what_the_training_saw(made, by_torch, tmp_path):
    _, npz, data = made
    options = maps_localize.Localize(
        checkpoint=str(npz), mode="mobilenetv1", methods=("cam",), layers=("0",), data=data, out=tmp_path, resize="tensorflow1",
        frames=("squash",), workers=0,
    )  # fmt: skip
    (directory,) = maps_localize.localize(options)
    the_same(Predictions.open(directory), by_torch)


def test_the_record_of_a_converted_network(made, tmp_path):
    _, npz, _ = made
    found = converted.read(npz)
    assert found.training is not None
    assert found == converted.Converted(tuple(reversed(small_cub.CLASSES)), SIDE, {**found.training, "seed": 6})
    for unknown in (tmp_path / "other.npz", "imagenet:mobilenetv1"):
        assert converted.read(unknown) == converted.Converted(None, 224)
    for wrong in ([], {"class_names": None}, {"class_names": [1], "input_size": 96}, {"input_size": 0},
                  {"class_names": None, "input_size": "96"}, {"class_names": None, "input_size": 96, "training": 6}):  # fmt: skip
        (tmp_path / "other.npz.converted.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"other.npz.converted.json: not the record of a converted checkpoint"):
            converted.read(tmp_path / "other.npz")
