"""Images as DGL and GRCAM see them at test time: through TensorFlow's own JPEG decoder and TensorFlow 1's resize.

Both differ from other libraries, as released: the decoder takes the fast integer DCT, which moves most pixels by a few
levels, and the resize samples another grid. Training reads through OpenCV, in `dataflow.py`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

from common.datasets import Sample
from common.measuring.geometry import SIDE, Frame
from common.pictures.images import ImageError, read_rgb, read_size, upright
from common.pictures.inputs import centre_crop, resize, ten_crops_of
from dgl_tf.weights import first_line

DECODERS = ("fast", "accurate")


@lru_cache(maxsize=2)
def _decoder(method: str) -> tuple[tf.Session, tf.Tensor, tf.Tensor]:
    with tf.Graph().as_default() as graph:
        content = tf.placeholder(tf.string, [])
        dct = {"fast": "INTEGER_FAST", "accurate": "INTEGER_ACCURATE"}[method]
        decoded = tf.image.decode_jpeg(content, channels=3, dct_method=dct)
        # No number of threads: the first session of a process fixes it for all, and this may be the first.
        config = tf.ConfigProto(device_count={"GPU": 0})
        return tf.Session(graph=graph, config=config), content, decoded


def decode_jpeg(content: bytes, method: str = "fast") -> np.ndarray:
    """A JPEG file's content as (H, W, 3) uint8 RGB.

    Args:
        content: of the file.
        method: `fast`: the fast integer DCT, TensorFlow's default and the release's. `accurate`: as Pillow and OpenCV.

    Raises:
        ValueError: TensorFlow can't decode it.
    """
    session, placeholder, decoded = _decoder(method)
    try:
        return session.run(decoded, {placeholder: content})
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(first_line(error)) from error


def read_image(path: Path, method: str = "fast") -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB: JPEG as TensorFlow decodes it, others as `pictures.images` does.

    Raises:
        ImageError: not there, not an image, too large, or damaged.
    """
    if method not in DECODERS:
        raise ValueError(f"unknown decoder {method!r}, expected one of {', '.join(DECODERS)}")
    read_size(path)  # refuses what is no image, or too large, before anything is decoded
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return read_rgb(path)
    try:
        return decode_jpeg(content, method)
    except ValueError as error:
        raise ImageError(f"the image can't be decoded ({error})", where=path, do="replace or remove it") from error


def read_photograph(path: Path, method: str = "fast") -> np.ndarray:
    """Read a photograph that is named by hand as `read_image`, and turn it upright by its EXIF tag."""
    return upright(read_image(path, method), path)


def squashed(image: np.ndarray, size: int) -> np.ndarray:
    """The whole image (H, W, 3) RGB on TensorFlow 1's grid: (size, size, 3) float32 BGR, not rounded."""
    return resize(image, (size, size), "tensorflow1")[..., ::-1]


def in_frame(image: np.ndarray, frame: Frame) -> np.ndarray:
    """The part of an image (H, W, 3) RGB that a frame shows: (side, side, 3) float32 BGR."""
    resized = squashed(image, frame.resized[0])
    return resized if frame.size == frame.resized else centre_crop(resized, frame.size[0])


@dataclass(frozen=True, eq=False)
class View:
    """One image ready for the networks.

    Attributes:
        sample: which.
        frame: where `pixels` lies in the image; None where there is a problem.
        pixels: (side, side, 3) float32 BGR.
        crops: (10, S, S, 3) float32 BGR, S the side of the network's training, or None where one crop classifies.
        problem: why the image can't be used.
    """

    sample: Sample
    frame: Frame | None = None
    pixels: np.ndarray | None = None
    crops: np.ndarray | None = None
    problem: str | None = None


def view(sample: Sample, kind: str, crops: int, method: str = "fast", side: int = SIDE) -> View:
    """An image in a frame, and its ten crops of 224 x 224 out of 256 x 256; a damaged image's view tells its problem.

    Args:
        sample: which.
        kind: of the frame, such as `resize 224` or `resize 256 crop 224`.
        crops: 10, or 1.
        method: see `decode_jpeg`.
        side: of crops for a network that was not trained at 224.
    """
    try:
        image = read_image(sample.path, method)
    except ImageError as problem:
        return View(sample, problem=problem.found)
    frame = Frame.of_kind(kind, (image.shape[1], image.shape[0]))
    pixels = in_frame(image, frame)
    if crops != 10:
        return View(sample, frame, pixels)
    return View(sample, frame, pixels, ten_crops_of(image, side, "tensorflow1")[..., ::-1])


def views(
    samples: Sequence[Sample], kind: str, crops: int, method: str = "fast", threads: int = 2, side: int = SIDE
) -> Iterator[View]:
    """`view` of every sample in order, a few ahead of the one that is asked for."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for sample in samples:
            waiting.append(pool.submit(view, sample, kind, crops, method, side))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def overlay_base(pixels: np.ndarray) -> np.ndarray:
    """The network's normalized input (H, W, 3) BGR stretched to (H, W, 3) uint8, under the demo's overlays."""
    low, high = pixels.min(), pixels.max()
    return (255 * ((pixels - low) / (high - low) if high > low else np.zeros_like(pixels))).astype(np.uint8)


def overlay(base: np.ndarray, localization_map: np.ndarray) -> np.ndarray:
    """The demo's picture, (H, W, 3) uint8 BGR: 0.3 of the image and 0.7 of the map in jet's colours.

    Args:
        base: from `overlay_base`.
        localization_map: (h, w) in [0, 1]; enlarged bilinearly to the image, then truncated to 8 bits.
    """
    shown = (255 * cv2.resize(localization_map, base.shape[1::-1])).astype(np.uint8)
    return cv2.addWeighted(base, 0.3, cv2.applyColorMap(shown, cv2.COLORMAP_JET), 0.7, 0)
