"""The front door's numbers are those of the commands, for the methods that run in PyTorch."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from torch import nn

import wsol
from bas import weights as bas_weights
from bas.inference import Localize as BasOptions
from bas.inference import localize as bas_localize
from bas.localize import LocalizeImages, localize_images
from common.datasets import DataSource
from common.pytorch import backbones, cam, checkpoints
from common.pytorch.maps.localize import Localize as LayerOptions
from common.pytorch.maps.localize import localize as localize_layers
from common.runs.reader import Predictions
from common.system.errors import UserError
from spol import weights as spol_weights
from spol.localize import LocalizeImages as SpolPhotographs
from spol.localize import localize_images as spol_photographs
from spol.options import Source
from spol.seg.test import Localize as SpolOptions
from spol.seg.test import localize as spol_localize
from tests import small_cub
from tests.bas import filled as bas_filled
from tests.spol import filled as spol_filled
from tests.wsol import pictures
from wsol.photographs import Localize, localize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_cub.make(tmp_path_factory.mktemp("data") / "CUB")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint for each method, of random weights."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(3)
    model = backbones.build("mobilenet_v1", 3, pretrained=False)
    config = {"method": "cam", "architecture": "mobilenet_v1", "class_names": list(small_cub.CLASSES), "trained_on": {}}
    checkpoints.write(folder / "cam.pth", {"config": {**config, "options": {}}, "model": model.state_dict()})
    bas_weights.export(bas_filled.network("CUB", "mobilenet", classes=3), "mobilenet", folder / "bas.pth", 0, 0.1)
    spol_weights.write_released(folder / "spol.pth", spol_filled.network("seg"))
    return folder


def predictions(method, files, root, out):
    shared = {"out": out, "device": "cpu", "workers": 0, "batch_size": 4, "frames": ("squash",)}
    if method == "spol":
        return spol_localize(SpolOptions(data=Source("cub", root), snapshot=files / "spol.pth", **shared))[0]
    source, shared = DataSource("cub", root), {**shared, "crops": 1}
    if method == "bas":
        return bas_localize(BasOptions(checkpoint=files / "bas.pth", data=source, **shared))[0]
    cam.localize(cam.Localize(checkpoint=str(files / "cam.pth"), data=source, map_class="predicted", **shared))
    return out / "squash"


@pytest.mark.parametrize("method", ["cam", "bas", "spol"])
def test_numbers_are_the_commands(files, root, tmp_path, method):
    """Maps, boxes and classes equal."""
    stored = Predictions.open(predictions(method, files, root, tmp_path / "out"))
    localizer = wsol.load(files / f"{method}.pth", method, device="cpu")
    paths = [root / "images" / entry.image_id for entry in stored.entries]
    found = list(localizer.many(paths, batch_size=4))
    assert len(found) == len(stored.entries) == 6
    for entry, one in zip(stored.entries, found, strict=True):
        np.testing.assert_array_equal(one.map, stored.map(entry))
        np.testing.assert_array_equal(one.rule.of(one.map), entry.box)
        np.testing.assert_array_equal(one.box, one.frame.to_original(entry.box)[0])
        assert one.threshold == entry.threshold
        if method != "spol":
            best = np.argsort(-one.probabilities, kind="stable")
            assert tuple(best.tolist()) == entry.top5
            assert one.score == entry.top5_scores[0] or one.score == pytest.approx(entry.top5_scores[0], abs=1e-6)


@pytest.mark.parametrize("method", ["cam", "bas", "dgl"])
def test_networks_see_the_side_of_their_training(files, root, tmp_path, method):
    """As in the commands: images at 96 of a network that was trained at 96, and boxes in the frame of 224."""
    name = "bas.pth" if method == "bas" else "cam.pth"
    if method == "bas":
        config = {"method": "bas", "architecture": "mobilenet", "variant": "CUB", "trained_on": {}}
        network = bas_filled.network("CUB", "mobilenet", classes=3)
        content = {"config": {**config, "class_names": list(small_cub.CLASSES)}, "model": network.state_dict()}
    else:
        content = checkpoints.read(files / name)
    content["config"]["options"] = {"augmentation": {"resize": 110, "crop": 96, "method": "pillow"}}
    checkpoints.write(tmp_path / name, content)
    if method == "dgl":
        options = LayerOptions(checkpoint=str(tmp_path / name), data=DataSource("cub", root), out=tmp_path / "out",
                               methods=("dgl",), layers=("0",), frames=("squash",), crops=1, map_class="predicted",
                               device="cpu", workers=0, batch_size=4)  # fmt: skip
        stored = Predictions.open(localize_layers(options)[0])
    else:
        stored = Predictions.open(predictions(method, tmp_path, root, tmp_path / "out"))
    localizer, before = (wsol.load(folder / name, method, device="cpu") for folder in (tmp_path, files))
    paths = [root / "images" / entry.image_id for entry in stored.entries]
    for entry, one in zip(stored.entries, localizer.many(paths, batch_size=4), strict=True):
        np.testing.assert_array_equal(one.map, stored.map(entry))
        np.testing.assert_array_equal(one.box, one.frame.to_original(entry.box)[0])
        assert one.frame.size == (224, 224)
    assert not np.array_equal(one.map, before(paths[-1]).map)


@pytest.mark.parametrize("method", ["cam", "bas", "spol", "dgl"])
def test_torchs_global_settings_change_nothing(files, root, method):
    """Float64 by default, and inference mode around all of it; and another process gets the same."""
    file = files / (f"{method}.pth" if method in ("bas", "spol") else "cam.pth")
    path = next((root / "images").rglob("*.png"))
    expected = wsol.load(file, method, device="cpu")(path)
    torch.set_default_dtype(torch.float64)
    try:
        found = [wsol.load(file, method, device="cpu")(path)]
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        made_there = wsol.load(file, method, device="cpu")
        found.append(made_there(path))
    found += [made_there(path), pickle.loads(pickle.dumps(made_there))(path)]
    for one in found:
        np.testing.assert_array_equal(one.map, expected.map)


def test_photographs_are_those_of_bas_own_command(files, root, tmp_path):
    paths = tuple(sorted((root / "images").rglob("*.png"))[:2])
    theirs = localize_images(LocalizeImages(paths, files / "bas.pth", tmp_path / "theirs", device="cpu"))
    ours = localize(Localize(paths, str(files / "bas.pth"), tmp_path / "ours", device="cpu"))
    assert ours == theirs
    assert [json.loads(line) for line in (tmp_path / "ours/boxes.jsonl").read_text().splitlines()] == ours


def test_a_box_says_which_class_was_asked_for(files, root, tmp_path):
    """Beside it stand the best class and its score, which are of another class for two of the three."""
    paths = (next((root / "images").rglob("*.png")),)
    for label, name in (("1", small_cub.CLASSES[1]), (small_cub.CLASSES[2], small_cub.CLASSES[2]), (None, None)):
        (record,) = localize(Localize(paths, str(files / "cam.pth"), tmp_path / f"{label}", label=label, device="cpu"))
        assert record.get("label") == name
        found = wsol.load(files / "cam.pth", device="cpu")(paths[0], None if name is None else name)
        assert record["class"] == found.class_name
        assert (f" of {name} @" in repr(found)) == (name is not None)


@pytest.mark.parametrize("method", ["cam", "bas", "spol", "dgl", "grcam", "grad-cam"])
def test_one_picture_in_many_shapes_has_one_box(files, tmp_path, method):
    """A lying photograph with its EXIF tag, grey, CMYK, 16 bits, and what Pillow or numpy hold: the same map."""
    file = files / (f"{method}.pth" if method in ("bas", "spol") else "cam.pth")
    localizer = wsol.load(file, method, device="cpu")
    paths = pictures.write(tmp_path)
    with Image.open(paths[1]) as lying:
        found = [localizer(path) for path in paths] + [localizer(lying)]
    found.append(localizer(np.asarray(Image.open(paths[0]))))
    assert found[0].map.std() > 0
    for one in found:
        np.testing.assert_array_equal(one.map, found[0].map)
        assert one.image.shape == one.picture().shape == (90, 60, 3)


def test_the_commands_turn_a_lying_photograph(files, tmp_path):
    """BAS's and SPOL's own commands too: box and overlay are in the upright picture."""
    paths = tuple(pictures.write(tmp_path)[:2])
    records = localize_images(LocalizeImages(paths, files / "bas.pth", tmp_path / "bas", device="cpu"))
    records += spol_photographs(SpolPhotographs(paths, files / "spol.pth", tmp_path / "spol", device="cpu"))
    for upright, lying in (records[:2], records[2:]):
        assert upright["size"] == lying["size"] == [60, 90]
        assert upright["box"] == lying["box"]
    for folder in ("bas", "spol"):
        assert Image.open(tmp_path / folder / "phone.png.jpg").size == (60, 90)


def test_a_label_by_name_or_number(files, root):
    localizer = wsol.load(files / "cam.pth", device="cpu")
    path = next((root / "images").rglob("*.png"))
    maps = [localizer(path, label=number).map for number in range(3)]
    assert np.array_equal(localizer(path, label=small_cub.CLASSES[2]).map, maps[2])
    assert not np.array_equal(maps[0], maps[2])
    free = localizer(path)
    assert np.array_equal(free.map, maps[free.class_index])
    assert free.class_name == small_cub.CLASSES[free.class_index]
    assert [name for name, _ in free.top5] == [small_cub.CLASSES[n] for n in np.argsort(-free.probabilities)]


@pytest.mark.parametrize("method", ["dgl", "grad-cam"])
def test_maps_at_a_layer_are_the_commands(files, root, tmp_path, method):
    """Maps and boxes equal."""
    (directory,) = localize_layers(LayerOptions(
        checkpoint=str(files / "cam.pth"), data=DataSource("cub", root), out=tmp_path, methods=(method,), device="cpu",
        layers=("features.pointwise_11",), frames=("squash",), crops=1, workers=0, batch_size=4, map_class="predicted",
    ))  # fmt: skip
    stored = Predictions.open(directory)
    localizer = wsol.load(files / "cam.pth", method, layer="features.pointwise_11", device="cpu")
    found = localizer.many([root / "images" / entry.image_id for entry in stored.entries], batch_size=4)
    for entry, one in zip(stored.entries, found, strict=True):
        np.testing.assert_array_equal(one.map, stored.map(entry))
        np.testing.assert_array_equal(one.rule.of(one.map), entry.box)


def test_a_picture_without_region_has_no_box(files, tmp_path):
    """The same answer everywhere: None, in a record null."""
    localizer = wsol.load(files / "bas.pth", device="cpu", threshold=0.999)
    found = localizer(np.zeros((30, 40, 3), np.uint8))
    object.__setattr__(found, "map", np.zeros((224, 224), np.float32))
    assert found.box is None
    assert found.boxes().shape == (0, 4)
    assert "no box @0.999" in repr(found)
    assert found.save(tmp_path / "a/b.jpg").stat().st_size > 100
    with Image.open(found.save(tmp_path / "a/b.PNG")) as saved:
        assert (saved.format, np.asarray(saved).tolist()) == ("PNG", found.picture().tolist())


@pytest.mark.parametrize("level", [51, 128, 77])
def test_a_plateau_at_the_threshold_is_in_neither_mask_nor_boxes(files, level):
    """A map of 8 bits: its second level is the threshold itself, enlarged to sides that divide nothing."""
    found = wsol.load(files / "bas.pth", device="cpu")(np.zeros((301, 407, 3), np.uint8))
    stepped = np.zeros((224, 224), np.float32)
    stepped[20:200, 20:200], stepped[80:120, 60:160] = level / 255, 1
    object.__setattr__(found, "map", stepped)
    for threshold, (x0, y0, x1, y1) in ((level / 255, (60, 80, 160, 120)), (level / 255 - 0.01, (20, 20, 200, 200))):
        (box,) = found.boxes(threshold)
        np.testing.assert_allclose(box, np.array([x0, y0, x1, y1]) / 224 * [407, 301, 407, 301])
        rows, columns = np.nonzero(found.mask(threshold))
        of_mask = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(of_mask, box, atol=2)


def test_masks_are_of_the_pictures_size(files, root):
    found = wsol.load(files / "cam.pth", frame="crop", device="cpu")(next((root / "images").rglob("*.png")))
    mask = found.mask(0.0)
    assert mask.shape == (60, 80)
    # The central 224 of 256 are 7/8 of each side; what lies outside is never in.
    assert mask.mean() == pytest.approx((7 / 8) ** 2, abs=0.05)
    assert not mask[0].any()


def test_a_classifier_of_ones_own(tmp_path, root, monkeypatch):
    """A state dict under the names that wrappers leave; by torchvision's name, by a function, and in memory: one map."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=3)
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "mine.pth")
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in small_cub.CLASSES))
    (tmp_path / "ournetwork.py").write_text(
        "import torchvision\ndef build():\n    return torchvision.models.resnet18(num_classes=3)\n"
    )
    path = next((root / "images").rglob("*.png"))
    monkeypatch.chdir(tmp_path)
    shared = {"class_names": tmp_path / "names.txt", "device": "cpu"}
    by_name = wsol.load(tmp_path / "mine.pth", arch="torchvision:resnet18", **shared)(path)
    by_function = wsol.load(tmp_path / "mine.pth", arch="ournetwork:build", **shared)(path)
    in_memory = wsol.cam(model, **shared)(path)
    assert by_name.class_name in small_cub.CLASSES
    for one in (by_function, in_memory):
        np.testing.assert_array_equal(one.map, by_name.map)
    model.eval()
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB").resize((224, 224), 2))).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = model((pixels / 255 - mean) / std).softmax(dim=1)[0]
    np.testing.assert_allclose(by_name.probabilities, expected, atol=1e-5)
    record = localize(
        Localize((path,), str(tmp_path / "mine.pth"), tmp_path / "out", arch="torchvision:resnet18", **shared)
    )
    assert record[0]["class"] == by_name.class_name
    assert record[0]["box"] == [round(float(value), 2) for value in by_name.box]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"checkpoint": "plain.pth"}, r"does not say which method .*Say method \(--method\); .*, arch \(--arch\) as timm"),
    ({"checkpoint": "plain.pth", "arch": "torchvision:resnet34"}, "the checkpoint is of another network: .* missing"),
    ({"checkpoint": "plain.pth", "arch": "torchvision:nonet"}, "torchvision has no classifier 'nonet'"),
    ({"checkpoint": "plain.pth", "arch": "nosuchmodule:build"}, "no 'build' in the module 'nosuchmodule'"),
    ({"checkpoint": "plain.pth", "arch": "torchvision:resnet18", "class_names": ["a"]}, "1 class names; expected 3"),
    ({"checkpoint": "none.pth"}, "no such checkpoint"),
    ({"checkpoint": "plain.pth", "method": "drop"}, "unknown method 'drop'; expected one of cam, bas"),
    ({"checkpoint": "plain.pth", "method": "spol", "arch": "timm:resnet18"}, "spol is not made of a classifier alone"),
])  # fmt: skip
def test_refusals(tmp_path, arguments, message):
    torchvision = pytest.importorskip("torchvision")
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(UserError, match=message):
        wsol.load(**{**arguments, "checkpoint": tmp_path / arguments["checkpoint"]}, device="cpu")


def test_refusals_of_a_localizer(files, root):
    localizer = wsol.load(files / "cam.pth", device="cpu")
    path = next((root / "images").rglob("*.png"))
    for call, message in (
        (lambda: localizer(path, label="gull"), "no class 'gull'; expected one of 001.Red_Bird"),
        (lambda: localizer(path, label=3), "no class 3; expected a whole number, 0 to 2, or a name"),
        (lambda: localizer(path, label=1.5), "no class 1.5; expected a whole number"),
        (lambda: localizer(path, label=True), "no class True; expected a whole number"),
        (lambda: localizer(path, label="001.red_bird"), "no class '001.red_bird'; expected one of 001.Red_Bird$"),
        (lambda: localizer(path).boxes(1.5), "threshold 1.5; expected 0 to 1"),
        (lambda: localizer(path).mask(float("nan")), "threshold nan"),
        (lambda: localizer(path).save("found.txt"), "the picture's ending is '.txt'; expected .jpg, .png or .pdf"),
        (lambda: localizer(np.zeros((4, 4), np.uint8)), r"a picture of uint8 \(4, 4\); expected a path, a Pillow"),
        (lambda: localizer(root / "none.png"), "no such"),
        (lambda: localizer.group([path]), "a group; expected a data set. Run grcam/run_test.sh"),
        (lambda: list(localizer.many([path], batch_size=0)), "batch_size 0"),
        (lambda: wsol.load(files / "cam.pth", threshold=1.5), "threshold 1.5"),
        (lambda: wsol.load(files / "bas.pth", "bas", top_k=0), "--top-k 0; expected gt, or 1 and more"),
        (lambda: wsol.load(files / "bas.pth", "bas", layer=3), "layer 3 for bas of this checkpoint. Leave layer out"),
        (lambda: wsol.load(files / "cam.pth", mean=(0.5,) * 3), "for a checkpoint that says what its images are"),
        (lambda: wsol.load(files / "cam.pth", top_k=2), "top_k 2 for cam of this checkpoint"),
        (lambda: wsol.load(files / "cam.pth", class_names=["a"]), "1 class names; expected 3, as the network has"),
        (
            lambda: wsol.load(files / "cam.pth", class_names=[name.lower() for name in small_cub.CLASSES[::-1]]),
            f"the checkpoint's class names in another order; expected '{small_cub.CLASSES[0]}' as class 0",
        ),
        (
            lambda: wsol.load(files / "cam.pth", class_names=small_cub.CLASSES[::-1]),
            f"the checkpoint's class names in another order; expected '{small_cub.CLASSES[0]}' as class 0",
        ),
        (
            lambda: wsol.load(files / "spol.pth", "spol", device="cpu")(path, label=0),
            "class 0 for spol, whose map is of",
        ),
        (lambda: wsol.load(files / "cam.pth", sigmoid=True), "sigmoid True for a checkpoint that says what"),
        (lambda: wsol.load(files / "spol.pth", "spol", class_names=["a"]), "class names for spol without a classifier"),
    ):
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.parametrize(("trained_on", "recipe", "threshold"), [
    (None, None, 0.2), ("cub", None, 0.2), ("ilsvrc", None, 0.8), ("ilsvrc", "cub", 0.2), ("cub", "imagenet", 0.8),
])  # fmt: skip
def test_spols_threshold_is_that_of_what_it_was_trained_on(files, tmp_path, trained_on, recipe, threshold):
    path = files / "spol.pth"
    if trained_on is not None:
        config = {"method": "spol-seg", "class_names": ["a"], "trained_on": {"name": trained_on}, "options": {}}
        path = tmp_path / "final.pth"
        checkpoints.write(path, {"config": config, "model": spol_filled.network("seg").state_dict()})
    assert wsol.load(path, "spol", recipe=recipe, device="cpu").rule.threshold == threshold


def test_class_names_of_a_file_that_says_none(files, root):
    names = ["gull", "tern", "auk"]
    localizer = wsol.load(files / "bas.pth", "bas", class_names=dict(enumerate(names)), device="cpu")
    found = localizer(next((root / "images").rglob("*.png")), label="tern")
    assert (found.label, found.class_name) == (1, names[found.class_index])


class Tiny(nn.Module):
    """Four classes of a convolution's mean, under `logits` where asked for."""

    def __init__(self, *, named: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.fc, self.named = nn.Conv2d(3, 5, 3, 8), nn.Linear(5, 4), named

    def forward(self, images):
        scores = self.fc(self.features(images).mean(dim=(2, 3)))
        return {"logits": scores} if self.named else scores


def test_two_classes_of_one_name_are_told_by_number(root):
    path = next((root / "images").rglob("*.png"))
    localizer = wsol.cam(Tiny(), class_names=["crane", "gull", "crane", "tern"], device="cpu")
    assert localizer(path, label="gull").label == 1
    with pytest.raises(UserError, match="2 classes are called 'crane': 0, 2. Give the number of the one that you mean"):
        localizer(path, label="crane")


def test_scores_by_name_and_double_precision(root):
    """float64 weights give float32's map within 1e-5; half precision is refused, as its map would be another."""
    path = next((root / "images").rglob("*.png"))
    expected = wsol.cam(Tiny(), device="cpu")(path)
    np.testing.assert_array_equal(wsol.cam(Tiny(named=True), device="cpu")(path).map, expected.map)
    np.testing.assert_allclose(wsol.cam(Tiny().double(), device="cpu")(path).map, expected.map, atol=1e-5)
    with pytest.raises(UserError, match=r"weights are torch.bfloat16; expected float32 or float64. Call model.float"):
        wsol.cam(Tiny().bfloat16(), device="cpu")


def test_the_first_map_waits_for_no_compiler():
    """torch._dynamo, whose import takes seconds, is not imported for an ImageNet classifier's map."""
    code = (
        "import sys, numpy as np, wsol\n"
        "found = wsol.load('imagenet:mobilenet_v1', method='dgl', layer=5)(np.zeros((9, 9, 3), np.uint8))\n"
        "assert isinstance(found.class_name, str)\n"
        "print(sorted({'torch._dynamo', 'torchvision', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
