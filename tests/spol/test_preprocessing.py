import random
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from common.datasets import Sample
from common.measuring.geometry import Frame
from common.system.errors import UserError
from spol.data import TrainingImages
from spol.losses import BACKGROUND, FOREGROUND, IGNORED
from spol.preprocessing import Geometry, Preprocessing, nearest, target
from tests import fill


def recorded_images(golden):
    recorded = golden("spol/preprocess") | golden("spol/views")
    sizes = zip(recorded["sizes"].tolist(), recorded["image_seeds"].tolist(), strict=True)
    return recorded, [fill.image(height, width, seed) for (height, width), seed in sizes]


@pytest.mark.parametrize(("name", "kind", "step"), [
    ("cls685", "resize 685", 11), ("cam256", "resize 256", 5), ("seg224", "resize 256 crop 224", 5),
])  # fmt: skip
def test_test_images_are_the_recorded_ones(golden, name, kind, step):
    """albumentations 0.5.2 with OpenCV 4.5.3; 1e-5 absolute. Resizing before normalizing would be off by 1.3e-2."""
    recorded, images = recorded_images(golden)
    for number, image in enumerate(images):
        view = Preprocessing().view(image, Frame.of_kind(kind, image.shape[1::-1])).transpose(2, 0, 1)
        np.testing.assert_allclose(view[:, ::step, ::step], recorded[f"{name}_{number}_sub"], atol=1e-5)
        sums = [view.sum(dtype=np.float64), np.abs(view).sum(dtype=np.float64)]
        np.testing.assert_allclose(sums, recorded[f"{name}_{number}_sum"], rtol=1e-6)


@pytest.mark.parametrize(("name", "resize", "crop"), [("camtrain", 256, 224), ("clstrain", 685, 600)])
def test_crops_replay_the_recorded_draws(golden, name, resize, crop):
    """Python's generator as albumentations 0.5.2 drew from it: four numbers before ours."""
    recorded, images = recorded_images(golden)
    for row, (which, y, x, flip) in enumerate(recorded[f"{name}_draws"].tolist()):
        random.seed(int(recorded[f"{name}_python_seed0"]) + row)
        for _ in range(4):
            random.random()  # noqa: S311
        geometry = Geometry.draw(random.random, resize, crop)
        assert (geometry.y, geometry.x, geometry.flip) == (y, x, bool(flip))
        if row < 2:
            found = geometry.cut(Preprocessing().squash(images[which], (resize, resize))).transpose(2, 0, 1)
            np.testing.assert_allclose(found[:, ::7, ::7], recorded[f"{name}_{row}_sub"], atol=1e-5)


def test_normalizing_first_can_be_turned_off(golden):
    _, images = recorded_images(golden)
    frame = Frame.of_kind("resize 256", images[0].shape[1::-1])
    first, after = Preprocessing().view(images[0], frame), Preprocessing(normalize_first=False).view(images[0], frame)
    assert 1e-3 < np.abs(first - after).max() < 2e-2


def test_crops_stop_short_of_the_edge():
    """The release's offsets end at 31 for 256 and 224; 32 only when asked for."""
    offsets = [Geometry.draw(lambda: 1 - 1e-12, 256, 224, short_of_edge).y for short_of_edge in (True, False)]
    assert offsets == [31, 32]


def test_exif_turns_an_image_where_told(tmp_path):
    """Orientation 6: the stored 4 x 2 pixels stand upright as 2 x 4; images of a data set are read as stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert Preprocessing().read(tmp_path / "turned.jpg").shape == (2, 4, 3)
    assert Preprocessing(turn_by_exif=True).read(tmp_path / "turned.jpg").shape == (4, 2, 3)


def test_targets_are_the_recorded_ones(golden):
    """From stored pseudo masks through nearest resize, crop and flip; equal."""
    recorded = golden("spol/seglabel")
    for number in range(3):
        y, x, flip = recorded[f"crop_flip_{number}"].tolist()
        mask = Geometry(y, x, 224, bool(flip)).cut(nearest(recorded[f"seg_bgr_{number}"], 256))
        codes = target(mask[..., 0], mask[..., 1])
        np.testing.assert_array_equal(np.packbits(codes == FOREGROUND), recorded[f"mask_{number}"])
        np.testing.assert_array_equal(np.packbits(codes != IGNORED), recorded[f"weight_{number}"])


def test_training_images_of_the_targets_are_the_recorded_ones(golden):
    recorded = golden("spol/seglabel")
    for number in range(3):
        y, x, flip = recorded[f"crop_flip_{number}"].tolist()
        height, width = recorded[f"seg_bgr_{number}"].shape[:2]
        image = Preprocessing().squash(fill.image(height, width, 60 + number), (256, 256))
        cut = Geometry(y, x, 224, bool(flip)).cut(image)
        assert cut.sum(dtype=np.float64) == pytest.approx(float(recorded[f"image_sum_{number}"]), rel=1e-6)


@pytest.mark.parametrize(("there", "said"), [
    ("x.png", r"masks/x\.png: a pseudo mask that can't be read"),
    ("x.JPEG", r"masks/x\.JPEG: a pseudo mask that can't be read"),
    (None, r"masks/x\.png: no pseudo mask"),
])  # fmt: skip
def test_a_broken_pseudo_mask_is_named(tmp_path, there, said):
    Image.fromarray(fill.image(40, 40, 1)).save(tmp_path / "x.jpg")
    (tmp_path / "masks").mkdir()
    if there:
        (tmp_path / "masks" / there).write_bytes(b"no image")
    sample = Sample("x.jpg", tmp_path / "x.jpg", 0, np.zeros((0, 4)))
    images = TrainingImages([sample], 32, 24, Preprocessing(), 0, tmp_path / "masks")
    problem = images[0, 0]
    assert isinstance(problem, UserError)
    assert re.search(said, str(problem))


def test_the_thresholds_of_a_target():
    fore, gaus = np.array([[0, 2, 3, 63, 64, 0]], np.uint8), np.array([[0, 63, 63, 0, 0, 64]], np.uint8)
    assert target(fore, gaus).tolist() == [[BACKGROUND, BACKGROUND, IGNORED, IGNORED, FOREGROUND, FOREGROUND]]


def test_nearest_is_opencvs_for_every_size():
    """33 of the sizes from 40 to 1199 differ by a row from floor(i n / 256) and from PyTorch's nearest."""
    differing = 0
    for length in range(40, 1200):
        column = np.arange(length, dtype=np.float64)[:, None]
        found = nearest(column, 256)[:, 0]
        np.testing.assert_array_equal(found, cv2.resize(column, (1, 256), interpolation=cv2.INTER_NEAREST)[:, 0])
        differing += not np.array_equal(found, np.arange(256) * length // 256)
    assert differing == 33
