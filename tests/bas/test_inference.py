import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bas import weights
from bas.config import recipe
from bas.inference import Localize, localize, normalize
from bas.localize import LocalizeImages, localize_images
from common.datasets import DataSource
from common.measuring.metrics import LocalizationEvaluator, score_boxes
from common.measuring.protocols import BAS
from common.runs.reader import Predictions
from common.system.errors import UserError
from tests import commands, fill, small_cub
from tests.bas import filled

ROOT = Path(__file__).resolve().parents[2]


def recorded_data_set(folder, recorded):
    """The images that the released script ran on, as class folders, and their boxes, degenerate ones among them."""
    remaining, boxes = iter(recorded["gt_boxes_flat"].tolist()), {}
    for name in recorded["class_dirs"]:
        (folder / name).mkdir(parents=True)
    for path, (height, width), seed, count in zip(
        recorded["image_path"], recorded["image_hw"], recorded["image_seed"], recorded["gt_count"], strict=True
    ):
        image_id = "/".join(Path(path).parts[-2:])
        Image.fromarray(fill.image(int(height), int(width), int(seed))).save(folder / image_id)
        boxes[image_id] = np.array([next(remaining) for _ in range(count)], dtype=np.float64)
    return DataSource("folder", folder, "all"), boxes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["e2e_CUB_mobilenet", "e2e_CUB_vgg", "e2e_ILSVRC_resnet"])
def test_the_released_scripts_results(tmp_path, name):
    """Boxes, classes and hits equal; IoU 1e-6; maps 1e-4."""
    recorded = filled.golden(name)
    _, variant, arch = name.split("_")
    source, truth = recorded_data_set(tmp_path / "images", recorded)
    network = filled.network(variant, arch, classes=8, seed=int(recorded["seed"]))
    weights.export(network, arch, tmp_path / "released.pth.tar", 0, 0.1)
    top_k = "gt" if variant == "ILSVRC" else int(recorded["top_k"])
    threshold = float(recorded["threshold"])
    (directory,) = localize(
        Localize(checkpoint=tmp_path / "released.pth.tar", data=source, out=tmp_path / "out", frames=("crop",),
              top_k=top_k, threshold=threshold, device="cpu", workers=0)
    )  # fmt: skip
    predictions = Predictions.open(directory)
    evaluator = LocalizationEvaluator(BAS, [threshold])
    order = {"/".join(Path(path).parts[-2:]): row for row, path in enumerate(recorded["run_path"])}
    assert set(order) == set(truth) == {entry.image_id for entry in predictions.entries}
    for entry in predictions.entries:
        row = order[entry.image_id]
        box = np.array([0, 0, 224, 224]) if entry.box is None else entry.box
        np.testing.assert_array_equal(box, recorded["run_box"][row])
        assert entry.top5 == tuple(recorded["run_top5"][row])
        np.testing.assert_allclose(predictions.map(entry)[::8, ::8][::4, ::4], recorded["run_map_sub"][row], atol=1e-4)
        scores = score_boxes(BAS, [box[None]], entry.frame, truth[entry.image_id])
        assert scores.iou[0] == pytest.approx(recorded["run_iou"][row], abs=1e-6)
        evaluator.accumulate(
            predictions.map(entry), entry.frame, truth[entry.image_id], entry.label, entry.top5, entry.image_id
        )
    result = evaluator.compute()
    found = [
        float(array[0, 0]) / 100 for array in (result.top1, result.top5, result.gt_known, result.gt_known_over_images)
    ]
    expected = [float(recorded[key]) for key in ("final_top1", "final_top5", "final_gt", "micro_gt")]
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_constant_map_becomes_zeros():
    assert normalize(np.full((2, 2), 0.5, np.float32), 0.0).tolist() == [[0, 0], [0, 0]]
    raw = np.array([[0.0, 0.5], [0.25, 0.5]], np.float32)
    assert normalize(raw, 0.0).tolist() == [[0, 1], [0.5, 1]]
    assert normalize(raw, 1e-5).max() == pytest.approx(0.5 / 0.50001)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("infer")
    weights.export(filled.network("CUB", "mobilenet", classes=3), "mobilenet", folder / "released.pth.tar", 0, 0.1)
    return folder / "released.pth.tar", small_cub.make(folder / "CUB")


def options(made, out, **changes):
    checkpoint, root = made
    return Localize(
        checkpoint=checkpoint, data=DataSource("cub", root), out=out, crops=1, device="cpu", workers=0, **changes
    )


@pytest.mark.slow
def test_released_values_are_the_defaults_and_given_ones_win(made, tmp_path):
    for directory in localize(options(made, tmp_path / "a")):
        manifest = Predictions.open(directory).manifest
        assert manifest["options"]["top_k"] == recipe("CUB", "cub", "mobilenet").top_k == 200
        assert manifest["options"]["threshold"] == 0.15
        assert (manifest["method"], manifest["architecture"]) == ("bas", "mobilenet")
        assert len(manifest["checkpoint"]["sha256"]) == 64
    (directory,) = localize(options(made, tmp_path / "b", frames=("squash",), top_k="gt", threshold=0.4))
    assert Predictions.open(directory).manifest["options"]["top_k"] == "gt"


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "message"), [
    ({"top_k": 0}, "--top-k 0; expected gt, or 1 and more"),
    ({"arch": "vgg"}, "architecture is mobilenet; expected vgg"),
    ({"frames": ()}, "expected crop, squash or both"),
])  # fmt: skip
def test_refusals(made, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        localize(options(made, tmp_path, **changes))


@pytest.mark.slow
def test_photographs_without_annotations(made, tmp_path, capsys):
    checkpoint, root = made
    images = sorted((root / "images").rglob("*.png"))[:2]
    renamed = tmp_path / "other name.png"
    renamed.write_bytes(images[1].read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    found = localize_images(
        LocalizeImages((images[0], renamed, tmp_path / "broken.jpg"), checkpoint, tmp_path / "out", device="cpu")
    )
    lines = [json.loads(line) for line in (tmp_path / "out/boxes.jsonl").read_text().splitlines()]
    assert lines == found
    assert [line["size"] for line in lines] == [[80, 60], [80, 60]]
    for line in lines:
        x0, y0, x1, y1 = line["box"]
        assert 0 <= x0 < x1 <= 80
        assert 0 <= y0 < y1 <= 60
    assert Image.open(tmp_path / "out/other name.png.jpg").size == (80, 60)
    assert "left out:" in capsys.readouterr().out
    with pytest.raises(UserError, match="boxes already"):
        localize_images(LocalizeImages((images[0],), checkpoint, tmp_path / "out", device="cpu"))
    with pytest.raises(UserError, match="none of the images could be read"):
        localize_images(LocalizeImages((tmp_path / "broken.jpg",), checkpoint, tmp_path / "none", device="cpu"))


@pytest.mark.slow
def test_the_commands(made, tmp_path):
    checkpoint, root = made
    for module, arguments in (
        ("bas.inference", ["--data.name", "cub", "--data.root", root, "--crops", "1", "--top-k", "gt"]),
        ("bas.localize", [sorted((root / "images").rglob("*.png"))[0]]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments, "--checkpoint", checkpoint, "--out", tmp_path / module],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = commands.run(module, *arguments, "--checkpoint", tmp_path / "none", "--out", tmp_path / "x")
        assert done.returncode == 2
        assert "no such checkpoint" in done.stderr
