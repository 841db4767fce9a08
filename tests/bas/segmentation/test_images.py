import random

import numpy as np
import pytest
import torch

from bas.segmentation import affinity
from bas.segmentation.config import RECIPES
from bas.segmentation.images import (
    Augmentation,
    cropped,
    flipped_pair,
    normalized,
    random_crop,
    reduced,
    scaled_size,
    top_left_crop,
)
from tests import fill
from tests.bas.segmentation.filled import blocks, golden


def seeded(case):
    return random.Random(int(case["seed"]))  # noqa: S311, the generator that was recorded


@pytest.fixture(scope="module")
def recorded():
    return golden("data")


def check(pixels, recorded, step):
    np.testing.assert_allclose(pixels[:, ::step, ::step], recorded["sub"], rtol=0, atol=1e-6)
    stat = [pixels.sum(dtype=np.float64), np.abs(pixels).sum(dtype=np.float64), pixels.min(), pixels.max()]
    np.testing.assert_allclose(stat, recorded["stat"], rtol=1e-6, atol=1e-3)
    assert (str(pixels.shape), str(pixels.dtype)) == tuple(recorded["shape_dtype"])


@pytest.mark.parametrize("image", range(4))
@pytest.mark.parametrize("kind", ["bas_train", "cam_train"])
def test_augmented_images_are_the_recorded_ones(recorded, kind, image):
    """Resize, flip, crop and pixels by the recorded seed; 1e-6."""
    pixels = fill.image(*recorded["hws"][image])
    augmentation = RECIPES[kind.removesuffix("_train"), "resnet50"].augmentation
    for number in (0, 1):
        case = {
            key.split("/", 2)[2]: value
            for key, value in recorded.items()
            if key.startswith(f"{kind}/{image}_{number}/")
        }
        found, labels = augmentation.apply(pixels, seeded(case))
        assert labels is None
        check(found, case, 32)
        rng = seeded(case)
        size = augmentation.size(pixels.shape[:2], rng)
        assert size == tuple(case["resized_hw"])
        assert rng.getrandbits(1) == case["flip"]
        assert list(random_crop(size, augmentation.crop, rng)) == case["box"].tolist()


@pytest.mark.parametrize(("kind", "crop"), [("aff512", 512), ("aff128", 128)])
@pytest.mark.parametrize("image", range(4))
def test_label_maps_move_with_their_image(recorded, kind, crop, image):
    """IRN's augmentation, the reduced label map and the pairs' labels are equal."""
    case = {key.split("/", 2)[2]: value for key, value in recorded.items() if key.startswith(f"{kind}/{image}/")}
    height, width, seed = recorded["hws"][image]
    classes = [0, *(np.flatnonzero(recorded["labels"][image]) + 1)]
    augmentation = Augmentation(crop, factor=(0.5, 1.5))
    found, labels = augmentation.apply(
        fill.image(height, width, seed), seeded(case), blocks(height, width, classes, seed)
    )
    check(found, case, 32)
    np.testing.assert_array_equal(labels[::16, ::16], case["label_sub"])
    np.testing.assert_array_equal(reduced(labels), case["reduced"])
    pairs = affinity.pair_labels(torch.from_numpy(reduced(labels))[None].long(), 10, 20)
    for name, pair in zip(("bg_pos", "fg_pos", "neg"), pairs, strict=True):
        assert tuple(pair.shape[1:]) == tuple(case[f"aff_{name}_label_shape"])
        np.testing.assert_array_equal(pair[0].sum(dim=1), case[f"aff_{name}_label_per_dst"])
        if kind == "aff128":
            np.testing.assert_array_equal(np.packbits(pair[0].numpy()), case[f"aff_{name}_label_bits"])


@pytest.mark.parametrize("image", range(3))
def test_the_top_left_crop(recorded, image):
    pixels = normalized(fill.image(*recorded["hws"][image]))
    found = cropped(pixels, top_left_crop(pixels.shape[:2], 512), 512, 0).transpose(2, 0, 1)
    case = {key.split("/", 2)[2]: value for key, value in recorded.items() if key.startswith(f"topleft/{image}/")}
    check(np.ascontiguousarray(found), case, 32)


@pytest.mark.parametrize("image", range(3))
def test_scaled_pairs_are_the_recorded_ones(recorded, image):
    pixels = fill.image(*recorded["hws"][image])
    for number, factor in enumerate((1, 0.5, 1.5, 2)):
        pair = flipped_pair(pixels, factor)
        assert tuple(pair.shape) == tuple(recorded[f"msf/{image}/shapes"][number])
        np.testing.assert_allclose(pair[0][:, ::9, ::9], recorded[f"msf/{image}/sub{number}"], rtol=0, atol=1e-6)
        assert torch.equal(pair[1], pair[0].flip(-1))
        sums = [float(pair[0].double().sum()), float(pair[0].double().abs().sum())]
        np.testing.assert_allclose(sums, recorded[f"msf/{image}/sums"][number], rtol=1e-6, atol=1e-3)


def test_sizes_round_halves_to_even(recorded):
    sizes = recorded["round/size"]
    for height, row in zip(recorded["round/h"], sizes, strict=True):
        assert [scaled_size((height, height), factor)[0] for factor in recorded["round/scale"]] == row.tolist()
