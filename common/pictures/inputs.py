"""A network's input made of an image: the three resizes of the papers' libraries by name, crops, normalization."""

import cv2
import numpy as np
from PIL import Image

from common.measuring.geometry import CENTRE_CROP, Frame, seen_kind

RESIZES = ("pillow", "opencv", "tensorflow1")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""RGB, of values in [0, 1]; all four papers normalize with it."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB, from values in [0, 1]."""


def resize(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """Resize as one of the papers' libraries does; their results differ by several grey levels.

    Args:
        image: (H, W, 3) uint8, or float32 for `opencv` and `tensorflow1`.
        size: width and height wanted.
        method: `pillow`: bilinear with antialiasing when shrinking, uint8 (BAS).
            `opencv`: bilinear, half-pixel centres, no antialiasing, dtype kept (SPOL, DGL's training).
            `tensorflow1`: bilinear on TensorFlow 1's legacy grid, source = target * in/out, no half-pixel shift,
            float32 and never rounded (DGL's and GRCAM's inference).

    Raises:
        ValueError: unknown method, or a dtype that the library would not take.
    """
    if method == "pillow":
        if image.dtype != np.uint8:
            raise ValueError(f"Pillow resizes uint8 images, not {image.dtype}")
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    if method == "opencv":
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    if method == "tensorflow1":
        return _resize_legacy(image.astype(np.float32), size)
    raise ValueError(f"unknown resize {method!r}, expected one of {', '.join(RESIZES)}")


def _resize_legacy(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`tf.compat.v1.image.resize_bilinear(align_corners=False, half_pixel_centers=False)` in numpy."""
    (height, width), (new_width, new_height) = image.shape[:2], size
    left, right, along_x = _legacy_grid(width, new_width)
    top, bottom, along_y = _legacy_grid(height, new_height)
    along_x, along_y = along_x[None, :, None], along_y[:, None, None]
    rows = image[:, left] + (image[:, right] - image[:, left]) * along_x
    return rows[top] + (rows[bottom] - rows[top]) * along_y


def _legacy_grid(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source = np.arange(new_length, dtype=np.float32) * (np.float32(length) / np.float32(new_length))
    lower = np.minimum(source.astype(np.int64), length - 1)
    return lower, np.minimum(lower + 1, length - 1), source - lower.astype(np.float32)


def centre_crop(image: np.ndarray, side: int) -> np.ndarray:
    """The central `side` x `side` of an (H, W, ...) array, the offset rounded down."""
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[y : y + side, x : x + side]


CENTRE_OF_TEN = 4
"""The centre crop's place among `ten_crops`."""


def squashed_for_crops(image: np.ndarray, side: int, method: str) -> np.ndarray:
    """The image squashed to the square that crops of `side` are cut from: of 256 for 224, of 110 for 96.

    Args:
        image: (H, W, 3), dtype as of `resize`.
        side: of the crops, in pixels.
        method: see `resize`.
    """
    around = Frame.of_kind(seen_kind(CENTRE_CROP, side), (image.shape[1], image.shape[0]))
    return resize(image, around.resized, method)


def ten_crops(image: np.ndarray, side: int) -> np.ndarray:
    """Ten crops (10, side, side, ...): the corners, left before right, the centre, then the same of the mirror image.

    The order is torchvision's and GRCAM's; the results are averaged, so only the mirrored centre's place matters.
    """
    bottom, right = image.shape[0] - side, image.shape[1] - side
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return np.stack([view[y : y + side, x : x + side] for view in (image, image[:, ::-1]) for y, x in corners])


def ten_crops_of(image: np.ndarray, side: int, method: str) -> np.ndarray:
    """Ten crops (10, side, side, 3) of a whole image; arguments as of `squashed_for_crops`."""
    return ten_crops(squashed_for_crops(image, side, method), side)


def normalize(images: np.ndarray) -> np.ndarray:
    """uint8 RGB (..., 3) to float32: divided by 255, ImageNet's mean taken off, divided by its deviation."""
    scaled = images.astype(np.float32) / 255.0
    return (scaled - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
