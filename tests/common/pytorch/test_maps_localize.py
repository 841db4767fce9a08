"""The command that localizes a data set with the maps of any layer."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from common.datasets import DataSource
from common.pytorch import backbones, checkpoints, maps
from common.pytorch.data import normalized
from common.pytorch.maps.localize import Localize, enlarged, localize
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import small_cub
from tests.bas.filled import fill_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small CUB, and a MobileNetV1 that was trained on nothing."""
    folder = tmp_path_factory.mktemp("maps")
    root = small_cub.make(folder / "CUB", train=1, test=2)
    model = backbones.build("mobilenet_v1", 3, pretrained=False).eval()
    with torch.no_grad():
        fill_network(model, 0, 2.0)
    source = DataSource("cub", root, "train")
    config = {"method": "cam", "architecture": "mobilenet_v1", "class_names": list(small_cub.CLASSES),
              "trained_on": source.identity(source.load())}  # fmt: skip
    checkpoints.write(folder / "final.pth", {"config": config, "model": model.state_dict()})
    return folder / "final.pth", root, model


def options(made, out, **changes):
    checkpoint, root, _ = made
    return Localize(**{"checkpoint": str(checkpoint), "data": DataSource("cub", root, "test"), "out": out, "crops": 1,
                       "device": "cpu", "workers": 0, "layers": ("0", "features.pointwise_9"), **changes})  # fmt: skip


def test_each_method_and_layer_has_a_directory(made, tmp_path, capsys):
    """Maps as `Mapper` gives them, 1e-6; a second run does nothing; the table names them and the trivial boxes."""
    given = options(made, tmp_path, methods=("dgl", "grcam", "grad-cam"), table="bas")
    directories = localize(given)
    runs = [("dgl", "features.pointwise_13"), ("dgl", "features.pointwise_9"), ("grcam", "features.pointwise_13"),
            ("grad-cam", "features.pointwise_13"), ("grad-cam", "features.pointwise_9")]  # fmt: skip
    names = [f"{method}-{layer}-{frame}" for frame in ("crop", "squash") for method, layer in runs]
    assert [directory.name for directory in directories] == names
    table = capsys.readouterr().out.split(
        "GT-known in percent under bas, @ the threshold that is best on these 6 images:"
    )[1]
    lines = table.splitlines()
    assert lines[1].split() == ["layer", "dgl", "grcam", "grad-cam"]
    assert [line.split()[0] for line in lines[3:5]] == ["features.pointwise_13", "features.pointwise_9"]
    assert lines[4].split()[3:4] == ["-"]
    assert "whole image" in table
    assert "is best. Report it on others" in lines[-1]
    first = Predictions.open(tmp_path / "dgl-features.pointwise_9-squash")
    assert first.manifest["options"]["gradient"] == "released"
    assert first.manifest["architecture"] == "mobilenet_v1 features.pointwise_9"
    compare_with_mapper(made, first)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    localize(given)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")} == before


def compare_with_mapper(made, predictions):
    from common.pytorch.data import LocalizationImages

    _, root, model = made
    samples = list(DataSource("cub", root, "test").load())
    items = LocalizationImages(samples, ["resize 224"], 1)
    images = normalized(torch.stack([items[n].views[0] for n in range(6)]), model.mean, model.std, torch.device("cpu"))
    labels = torch.tensor([sample.label for sample in samples])
    found = maps.Mapper(model, ("dgl",), ("features.pointwise_9",))(images, labels).maps["dgl", "features.pointwise_9"]
    for entry, raw in zip(predictions.entries, found.numpy(), strict=True):
        np.testing.assert_allclose(predictions.map(entry), enlarged(raw, (224, 224)), atol=1e-5)


def test_ten_crops_and_the_predicted_class(made, tmp_path):
    localize(options(made, tmp_path, crops=10, map_class="predicted", frames=("squash",), layers=("1",)))
    (directory,) = (path for path in tmp_path.iterdir() if path.name.startswith("dgl"))
    predictions = Predictions.open(directory)
    assert directory.name == "dgl-features.depthwise_13-squash"
    assert predictions.manifest["classifier"] == {"name": "mobilenet_v1", "crops": 10}
    assert predictions.manifest["options"]["map_class"] == "predicted"


@pytest.mark.parametrize(("changes", "message"), [
    ({"layers": ("layer3",)}, "there is no layer 'layer3'; expected all, or of 0 features.pointwise_13, 1 features.dep"),
    ({"table": "mine"}, "--table mine; expected one of bas"),
    ({"table": "bas", "frames": ("squash",)}, "--table bas measures in the frame crop. Say --frames crop"),
    ({"table": "bas", "maps": False}, "maps must be stored"),
    ({"methods": ("cam",), "layers": ("features.pointwise_9",)}, "no linear function of this layer's mean"),
])  # fmt: skip
def test_refusals(made, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        localize(options(made, tmp_path, **changes))


def test_both_frameworks_make_one_table(tmp_path):
    """DGL's command in TensorFlow and this one, on one checkpoint: classes equal, maps 1e-3 in the mean."""
    pytest.importorskip("tensorflow")
    from dgl_tf import test as in_tensorflow
    from tests.grcam import filled

    root = small_cub.make(tmp_path / "CUB", train=1, test=2)
    checkpoint = filled.checkpoint(tmp_path, "mobilenetv1", num_classes=3)
    data = DataSource("cub", root, "test")
    in_tensorflow.localize(in_tensorflow.Localize(
        load=str(checkpoint), data=data, out=tmp_path / "tf", mode="mobilenetv1", clayer=("0", "2", "4"), crops=1))  # fmt: skip
    layers = tuple(f"features.pointwise_{number}" for number in (13, 11, 9))
    localize(Localize(
        checkpoint=str(checkpoint), mode="mobilenetv1", data=data, out=tmp_path / "torch", layers=layers, crops=1,
        frames=("squash",), resize="tensorflow1", device="cpu", workers=0))  # fmt: skip
    names = {
        f"dgl-Conv2d_{number}_pointwise-squash": f"dgl-features.pointwise_{number}-squash" for number in (13, 11, 9)
    }
    for theirs, ours in {**names, "cam-squash": "cam-features.pointwise_13-squash"}.items():
        one, other = Predictions.open(tmp_path / "torch" / ours), Predictions.open(tmp_path / "tf" / theirs)
        assert one.manifest["checkpoint"]["sha256"] == other.manifest["checkpoint"]["sha256"]
        assert [entry.top5 for entry in one.entries] == [entry.top5 for entry in other.entries]
        for entry in one.entries:
            apart = np.abs(one.map(entry) - other.map(entry))
            assert apart.mean() < 1e-3
            assert apart.max() < 2e-2
