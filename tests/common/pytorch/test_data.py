import subprocess
import sys

import numpy as np
import pytest
import torch

from common.datasets import DataSource
from common.measuring.geometry import Frame
from common.pictures.images import ImageError, read_rgb
from common.pictures.inputs import centre_crop, normalize, resize, ten_crops
from common.pytorch.data import (
    Augmentation,
    LocalizationImages,
    TrainingImages,
    frame_pixels,
    localization_loader,
    normalized,
    training_loader,
)
from tests import small_cub
from tests.conftest import ROOT

SMALL = Augmentation(resize=40, crop=32)


@pytest.fixture
def samples(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "train").load().samples


def epoch(samples, workers, number, seed=0, first_batch=0):
    loader = training_loader(samples, SMALL, 4, seed, workers)
    loader.batch_sampler.epoch, loader.batch_sampler.first_batch = number, first_batch
    return list(loader)


def test_batches_do_not_depend_on_the_number_of_workers(samples):
    for one, other in zip(epoch(samples, 0, 1), epoch(samples, 2, 1), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_pass_that_starts_late_gives_the_same_remaining_batches(samples):
    whole, rest = epoch(samples, 0, 3), epoch(samples, 0, 3, first_batch=1)
    assert [len(labels) for _, labels in whole] == [4, 2]
    assert len(rest) == 1
    assert torch.equal(whole[1][0], rest[0][0])


def test_passes_and_seeds_differ(samples):
    pictures = [epoch(samples, 0, *key)[0][0] for key in ((0, 0), (1, 0), (0, 1))]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


def test_every_image_once_a_pass(samples):
    labels = torch.cat([labels for _, labels in epoch(samples, 0, 0)])
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_an_augmented_image_is_a_crop_of_the_resized_one_or_its_mirror(samples):
    images = TrainingImages(samples, SMALL, seed=0)
    whole = resize(read_rgb(samples[0].path), (40, 40), "pillow")
    crops = {
        np.ascontiguousarray(view[y : y + 32, x : x + 32]).tobytes(): (y, x, view is not whole)
        for view in (whole, whole[:, ::-1])
        for y in range(9)
        for x in range(9)
    }
    seen = {crops[images[(number, 0)][0].permute(1, 2, 0).numpy().tobytes()] for number in range(60)}
    assert len(seen) > 30
    assert {flipped for _, _, flipped in seen} == {True, False}
    assert {y for y, _, _ in seen} >= {0, 8}


def test_an_image_that_cant_be_read_is_named_not_skipped(samples):
    samples[0].path.write_bytes(b"")
    assert isinstance(TrainingImages(samples, SMALL, 0)[(0, 0)], ImageError)
    assert any(isinstance(item, ImageError) for item in epoch(samples, 2, 0))


def test_localization_items(samples):
    item = LocalizationImages(samples, ["resize 256 crop 224", "resize 224"], crops=10)[0]
    image = read_rgb(samples[0].path)
    squashed = resize(image, (256, 256), "pillow")
    assert [frame.kind for frame in item.frames] == ["resize 256 crop 224", "resize 224"]
    np.testing.assert_array_equal(item.views[0].permute(1, 2, 0).numpy(), centre_crop(squashed, 224))
    np.testing.assert_array_equal(item.views[1].permute(1, 2, 0).numpy(), resize(image, (224, 224), "pillow"))
    np.testing.assert_array_equal(item.crops.permute(0, 2, 3, 1).numpy(), ten_crops(squashed, 224))
    np.testing.assert_array_equal(item.crops[4].numpy(), item.views[0].numpy())


def test_localization_keeps_the_order_and_names_what_fails(samples):
    samples[2].path.write_bytes(b"")
    items = [
        item for batch in localization_loader(LocalizationImages(samples, ["resize 224"], 1), 4, 2) for item in batch
    ]
    assert [item.sample.image_id for item in items] == [sample.image_id for sample in samples]
    assert [item.problem for item in items] == [None, None, "the file is empty", None, None, None]
    with pytest.raises(ValueError, match="expected 1 or 10"):
        LocalizationImages(samples, ["resize 224"], crops=5)


def test_frames_show_what_they_say(samples):
    image = read_rgb(samples[0].path)
    pixels = frame_pixels(image, Frame.centre_crop((80, 60), 100, 50))
    np.testing.assert_array_equal(pixels, resize(image, (100, 100), "pillow")[25:75, 25:75])


def test_normalization_is_the_one_of_common_images(samples):
    image = read_rgb(samples[0].path)
    ours = normalized(
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None],
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        torch.device("cpu"),
    )
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), normalize(image), atol=1e-6)


LIMITED = """
import resource, sys
from pathlib import Path
from common.datasets import DataSource
from common.system.errors import run_command
from common.pytorch.data import Augmentation, LocalizationImages, localization_loader, training_loader
samples = DataSource("cub", Path(sys.argv[1]), "train").load().samples

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # of shared memory, which is a file
    if sys.argv[2] == "training":
        loader = training_loader(samples, Augmentation(), 4, 0, 2)
        loader.batch_sampler.epoch = 0
    else:
        loader = localization_loader(LocalizationImages(samples, ["resize 224"], 1), 2, 2)
    print(len(list(loader)), "batches")

run_command(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["training", "localization"])
def test_what_a_process_cant_send_ends_the_loader_instead_of_leaving_it_waiting(tmp_path, kind):
    root = small_cub.make(tmp_path / "CUB")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, root, kind], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: one of the command's other processes was killed, or could not send what it made")
