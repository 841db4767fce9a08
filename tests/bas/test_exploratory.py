import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bas import weights
from bas.exploratory import HEADER, Explore, explore, measure, series, true_mask
from common.datasets import DataSource, Sample
from common.measuring.geometry import Frame
from common.system.errors import UserError
from tests import small_cub
from tests.bas import filled


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["vgg", "mobilenet", "resnet", "inception"])
@pytest.mark.parametrize("pool", ["average", "nearest"])
def test_curves_are_the_recorded_ones(arch, pool):
    """Relative 1e-4, as for every recorded float32 output; areas are equal."""
    recorded = filled.golden("exploratory", f"{arch}_")
    mask = np.unpackbits(recorded["mask"]).reshape(224, 224).astype(bool)
    names, masks = series(mask, 16)
    numbers = {"empty": -99, "full": 99}
    assert [numbers.get(name, name) for name in names] == recorded["n"].tolist()
    np.testing.assert_allclose(masks.mean(axis=(1, 2)), recorded["area224"], rtol=1e-6)
    network = filled.network("CUB", arch, seed=int(recorded["seed"])).eval()
    few = slice(None, None, 9)
    found = measure(network, filled.images(1, seed=1), torch.from_numpy(masks[few]), int(recorded["label"]), pool)
    short = "avg" if pool == "average" else "nearest"
    for name, values in zip(("act_fg", "entropy", "act_bg"), found, strict=True):
        expected = recorded[f"{name}_{short}"]
        np.testing.assert_allclose(values, expected[few], rtol=1e-4, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    weights.export(filled.network("CUB", "mobilenet", classes=3), "mobilenet", folder / "released.pth.tar", 0, 0.1)
    return folder, small_cub.make(folder / "CUB")


@pytest.mark.slow
def test_curves_and_figures(made, tmp_path):
    folder, root = made
    options = Explore(
        folder / "released.pth.tar", DataSource("cub", root), tmp_path / "out", images=2, steps=2, device="cpu"
    )
    points = explore(options)
    with open(tmp_path / "out/curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADER
    assert len(rows) == len(points) == 2 * (2 * 2 + 3)
    for image_id in {point.image_id for point in points}:
        own = [point for point in points if point.image_id == image_id]
        assert [point.area for point in own] == sorted(point.area for point in own)
        assert {point.step: point.position for point in own}["empty"] == 0.0
        assert {point.step: point.position for point in own}[0] == pytest.approx(0.5, abs=1e-6)
        # The inverted mask of nothing is everything.
        ends = {point.step: point for point in own}
        assert ends["empty"].background_activation == pytest.approx(ends["full"].activation, rel=1e-5)
    for name in ("foreground.png", "background.png"):
        assert Image.open(tmp_path / "out" / name).size[0] > 500
    with pytest.raises(UserError, match="there are curves already"):
        explore(options)


@pytest.mark.slow
def test_the_network_sees_the_side_of_its_training(made, tmp_path, monkeypatch):
    folder, root = made
    loaded, sides = weights.load(folder / "released.pth.tar"), []
    extract = loaded.network.extract
    monkeypatch.setattr(loaded.network, "extract", lambda images: sides.append(images.shape[2]) or extract(images))
    for record in ({}, {"input_size": 96}):
        monkeypatch.setattr(weights, "load", lambda *_, record=record: replace(loaded, record=record))
        source = DataSource("cub", root)
        explore(Explore(Path("x.pth"), source, tmp_path / str(len(record)), images=1, steps=1, device="cpu"))
    assert sides == [224, 96]


def test_boxes_stand_in_for_masks():
    sample = Sample("x", None, 0, boxes=np.array([[0.0, 0.0, 64.0, 64.0]]))
    mask = true_mask(sample, Frame.centre_crop((128, 128)), 128)
    assert mask[:112, :112].all()  # 64 of 128 pixels are 128 of 256, of which the crop begins at 16
    assert mask.sum() == 112 * 112


@pytest.mark.slow
def test_the_command(made, tmp_path):
    folder, root = made
    done = subprocess.run(
        [sys.executable, "-m", "bas.exploratory", "--checkpoint", folder / "released.pth.tar", "--data.name", "cub",
         "--data.root", root, "--out", tmp_path / "out", "--steps", "0"], capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--steps 0; expected 1 or more" in done.stderr
