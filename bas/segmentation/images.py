"""Images for the segmentation networks: normalized before they are flipped and cropped, so that padding is the mean
colour; every random choice is drawn from one generator in the release's order.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from common.datasets import Sample
from common.datasets.label_maps import read_label_map
from common.measuring.segmentation import IGNORE
from common.pictures.images import ImageError, read_rgb
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.system.errors import UserError

LABEL_STRIDE = 4
"""Stride of the label maps that IRN trains on."""


def normalized(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (H, W, 3) to float32: (value / 255 - mean) / deviation, computed in float64."""
    return ((image / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)).astype(np.float32)


def scaled_size(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Height and width times a factor, halves rounded to even."""
    return round(size[0] * factor), round(size[1] * factor)


def resized(
    image: np.ndarray, size: tuple[int, int], method: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """A uint8 image at (height, width), by Pillow; as it is where it has that size."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))


def flipped_pair(image: np.ndarray, factor: float) -> Tensor:
    """A uint8 RGB image (H, W, 3) at a factor of its size, normalized, and its mirror image: (2, 3, h, w) float32."""
    pixels = normalized(resized(image, scaled_size(image.shape[:2], factor)))
    return torch.from_numpy(np.ascontiguousarray(np.stack([pixels, pixels[:, ::-1]]).transpose(0, 3, 1, 2)))


class CropBox(NamedTuple):
    """Rows and columns of the canvas that are pasted to, and of the image that are pasted."""

    top: int
    bottom: int
    left: int
    right: int
    from_top: int
    from_bottom: int
    from_left: int
    from_right: int


def random_crop(size: tuple[int, int], side: int, rng: random.Random) -> CropBox:
    """Place of a crop of `side` in an image (height, width); along x first. A smaller image lies anywhere in it."""
    spans = []
    for length in (size[1], size[0]):
        space = length - side
        offset = rng.randrange(abs(space) + 1)
        paste, source = (0, offset) if space > 0 else (offset, 0)
        covered = min(length, side)
        spans.append((paste, paste + covered, source, source + covered))
    (left, right, from_left, from_right), (top, bottom, from_top, from_bottom) = spans
    return CropBox(top, bottom, left, right, from_top, from_bottom, from_left, from_right)


def top_left_crop(size: tuple[int, ...], side: int) -> CropBox:
    """The upper left `side` x `side` of an image."""
    height, width = min(size[0], side), min(size[1], side)
    return CropBox(0, height, 0, width, 0, height, 0, width)


def cropped(values: np.ndarray, box: CropBox, side: int, fill: float) -> np.ndarray:
    """The crop (side, side, ...) of an image or label map, `fill` where it has no pixel."""
    canvas = np.full((side, side, *values.shape[2:]), fill, values.dtype)
    part = values[box.from_top : box.from_bottom, box.from_left : box.from_right]
    canvas[box.top : box.bottom, box.left : box.right] = part
    return canvas


@dataclass(frozen=True)
class Augmentation:
    """Training geometry: one of three ways to resize, then a mirror image half the time, then a random crop."""

    crop: int
    """Side of the network's input."""
    resize: int | None = None
    """Side that images are squashed to."""
    long_side: tuple[int, int] | None = None
    """Range of the longer side."""
    factor: tuple[float, float] | None = None
    """Range of the factor of both sides."""

    def size(self, size: tuple[int, ...], rng: random.Random) -> tuple[int, int]:
        """The (height, width) that an image is resized to."""
        if self.resize is not None:
            return self.resize, self.resize
        if self.long_side is not None:
            return scaled_size(size, rng.randint(*self.long_side) / max(size))
        if self.factor is not None:
            low, high = self.factor
            return scaled_size(size, low + rng.random() * (high - low))
        height, width = size
        return height, width

    def apply(
        self, image: np.ndarray, rng: random.Random, labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A uint8 RGB image, and its label map, as float32 (3, crop, crop) and uint8 (crop, crop)."""
        size = self.size(image.shape[:2], rng)
        if min(size) < 1:
            raise ImageError(f"an image of {image.shape[1]}x{image.shape[0]} would shrink to nothing")
        pixels = normalized(resized(image, size))
        labels = None if labels is None else resized(labels, size, Image.Resampling.NEAREST)
        if rng.getrandbits(1):
            pixels = pixels[:, ::-1]
            labels = None if labels is None else labels[:, ::-1]
        box = random_crop(size, self.crop, rng)
        pixels = np.ascontiguousarray(cropped(pixels, box, self.crop, 0).transpose(2, 0, 1))
        return pixels, None if labels is None else cropped(labels, box, self.crop, IGNORE)


def reduced(labels: np.ndarray) -> np.ndarray:
    """A label map (H, W) uint8 at a quarter of its size, by Pillow's nearest."""
    size = (labels.shape[0] // LABEL_STRIDE, labels.shape[1] // LABEL_STRIDE)
    return resized(labels, size, Image.Resampling.NEAREST)


def multi_hot(labels: Sequence[int], num_classes: int) -> Tensor:
    """(C,) float32, 1 for the classes named."""
    vector = torch.zeros(num_classes)
    vector[list(labels)] = 1
    return vector


class TrainingImages(Dataset[Any]):
    """Augmented images (3, crop, crop) float32 with their labels: multi-hot (C,), or reduced label maps.

    What happens to an image depends on the seed, the epoch and the image alone, so a resumed run sees what the
    uninterrupted one would have.

    Args:
        samples: the images.
        augmentation: what is done to them.
        seed: of all random choices.
        num_classes: C.
        label_maps: their files, for IRN; None gives image labels.
    """

    def __init__(
        self, samples: Sequence[Sample], augmentation: Augmentation, seed: int, num_classes: int, label_maps=None
    ):
        self.samples, self.augmentation, self.seed = samples, augmentation, seed
        self.num_classes, self.label_maps = num_classes, label_maps

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | UserError:
        epoch, index = key
        sample, rng = self.samples[index], random.Random(f"{self.seed} {epoch} {index}")  # noqa: S311
        try:
            image = read_rgb(sample.path)
            if self.label_maps is None:
                pixels, _ = self.augmentation.apply(image, rng)
                return torch.from_numpy(pixels), multi_hot(sample.labels, self.num_classes)
            labels = read_label_map(self.label_maps[index], image.shape[1::-1], self.num_classes)
            pixels, augmented = self.augmentation.apply(image, rng, labels)
            assert augmented is not None  # with labels come labels
            return torch.from_numpy(pixels), torch.from_numpy(reduced(augmented).astype(np.int64))
        except UserError as problem:
            return problem
