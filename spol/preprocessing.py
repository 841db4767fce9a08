"""Network inputs and targets from pixels, as the release's albumentations 0.5.2 made them, with numpy and OpenCV alone.

Images are normalized first, in float32, and resized after, so nothing is ever rounded to 8 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.measuring.geometry import Frame
from common.pictures.images import ImageError, read_rgb, read_size
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD, centre_crop, resize
from spol.losses import BACKGROUND, FOREGROUND, IGNORED

FOREGROUND_FROM, BACKGROUND_TO = 64, 2
"""Grey levels of a pseudo mask: from 64 (over 0.25) foreground, in the map or in the Gaussians; up to 2 (under 0.01) in
the map, background."""


@dataclass(frozen=True)
class Preprocessing:
    """Habits of the released code that move pixels, each with its own flag."""

    normalize_first: bool = True
    """Normalize, then resize, in float32. Otherwise resize the 8-bit image, then normalize."""
    crop_short_of_edge: bool = True
    """Random crops never touch the right and lower edge: offsets 0 to resize - crop - 1. Otherwise they may."""
    turn_by_exif: bool = False
    """Turn images as their EXIF tag says, as the release does; annotations don't know of it. Otherwise as stored."""

    def read(self, path: Path) -> np.ndarray:
        """An image file as (H, W, 3) uint8 RGB; raises `ImageError`."""
        return read_rgb(path, "apply" if self.turn_by_exif else "ignore")

    def squash(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) uint8 RGB to float32 of `size` (width, height), normalized with ImageNet's mean and deviation."""
        if self.normalize_first:
            return resize(normalized(image), size, "opencv")
        return normalized(resize(image, size, "opencv"))

    def view(self, image: np.ndarray, frame: Frame) -> np.ndarray:
        """The part of an image that a frame shows, (height, width, 3) float32, normalized."""
        squashed = self.squash(image, frame.resized)
        return squashed if frame.size == frame.resized else centre_crop(squashed, frame.size[0])


def normalized(image: np.ndarray) -> np.ndarray:
    """(x - 255 mean) * (1 / (255 std)) of uint8 RGB (H, W, 3), every step in float32."""
    mean = np.array(IMAGENET_MEAN, np.float32) * np.float32(255)
    scale = np.reciprocal(np.array(IMAGENET_STD, np.float32) * np.float32(255))
    return (image.astype(np.float32) - mean) * scale


@dataclass(frozen=True)
class Geometry:
    """Place of a random crop, and whether it is mirrored after."""

    y: int
    x: int
    side: int
    flip: bool

    @classmethod
    def draw(cls, uniform: Callable[[], float], resized: int, side: int, short_of_edge: bool = True) -> "Geometry":
        """Draw the vertical offset, the horizontal one and the flip, in the release's order.

        Args:
            uniform: a number in [0, 1).
            resized, side: of the squash and of the crop.
            short_of_edge: see `Preprocessing.crop_short_of_edge`.
        """
        room = resized - side + (not short_of_edge)
        y, x = int(room * uniform()), int(room * uniform())
        return cls(y, x, side, uniform() < 0.5)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The crop of an (H, W, ...) array."""
        part = array[self.y : self.y + self.side, self.x : self.x + self.side]
        return part[:, ::-1] if self.flip else part


def nearest(mask: np.ndarray, side: int) -> np.ndarray:
    """An (H, W, ...) array at `side` x `side`, by OpenCV's rule of the nearest: index floor(i * (1 / (side / n))).

    PyTorch's nearest and floor(i * n / side) differ from it by a row or column for some sizes.
    """
    rows, columns = (_nearest_index(length, side) for length in mask.shape[:2])
    return mask[rows][:, columns]


def _nearest_index(length: int, side: int) -> np.ndarray:
    step = 1.0 / (float(side) / length)
    return np.minimum(np.floor(np.arange(side) * step).astype(int), length - 1)


def target(fore: np.ndarray, gaus: np.ndarray) -> np.ndarray:
    """A segmentation target (H, W) uint8 of codes, from a pseudo mask's two channels, (H, W) uint8 each."""
    foreground = (fore >= FOREGROUND_FROM) | (gaus >= FOREGROUND_FROM)
    codes = np.where(fore <= BACKGROUND_TO, np.uint8(BACKGROUND), np.uint8(IGNORED))
    codes[foreground] = FOREGROUND
    return codes


def read_pseudo_mask(path: Path) -> np.ndarray | None:
    """A pseudo mask's map and Gaussians, (H, W, 2) uint8; None where the file is no readable image."""
    try:
        read_size(path)  # OpenCV would decode a bomb
    except ImageError:
        return None
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if stored is None else stored[..., :2]
