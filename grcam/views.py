"""Views of an image that the classifier sees: the whole squashed, and ten crops; decoded by TensorFlow as released.

TensorFlow decodes JPEG files with the fast, less exact inverse cosine transform, which moves most samples by a grey
level or more (quirk Q20); the package simplejpeg gives the same bytes without TensorFlow. Everything after that is
`common.pictures.inputs`: TensorFlow 1's legacy grid without TensorFlow.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.datasets import Sample
from common.measuring.geometry import FRAMES, Frame
from common.pictures.images import ImageError, read_rgb, read_size
from common.pictures.inputs import CENTRE_OF_TEN, centre_crop, resize, squashed_for_crops, ten_crops_of
from common.system.errors import UserError
from grcam.config import SIDE

AHEAD = 2
"""Batches that are loaded ahead."""


@dataclass(frozen=True, eq=False)
class Views:
    """One image ready for the network.

    Attributes:
        sample: which.
        frames: where the views that maps are made of lie in it.
        views: (V, side, side, 3) float32 RGB in [0, 255], 224 by default: the squashed image first, then the crops.
        problem: set instead of the views when the image can't be used.
    """

    sample: Sample
    frames: tuple[Frame, ...] = ()
    views: np.ndarray | None = None
    problem: str | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """The network's results for one image.

    Attributes:
        probabilities: (K,) float32, the mean over the crops.
        refined, plain: raw maps (M, h, w) of the true class, one for each frame: GRCAM's and CAM.
    """

    probabilities: np.ndarray
    refined: np.ndarray
    plain: np.ndarray


@dataclass(frozen=True)
class Layout:
    """Views that there are of an image.

    Attributes:
        frames: names of the frames that maps are made in, `squash` first.
        crops: 10, or 1 for the squashed image alone.
        side: of each view, in pixels; 224 unless the network was trained at another.
    """

    frames: tuple[str, ...]
    crops: int
    side: int = SIDE

    @property
    def mapped(self) -> tuple[int, ...]:
        """The views that maps are made of, one for each frame."""
        places = {"squash": 0, "crop": 1 + CENTRE_OF_TEN if self.crops == 10 else 1}
        return tuple(places[name] for name in self.frames)

    @property
    def classified(self) -> slice:
        """The views whose probabilities are averaged."""
        return slice(1, None) if self.crops == 10 else slice(0, 1)

    def of(self, image: np.ndarray) -> np.ndarray:
        """The views (V, side, side, 3) float32 of an image (H, W, 3) uint8."""
        views = [resize(image, (self.side, self.side), "tensorflow1")[None]]
        if self.crops == 10:
            views.append(ten_crops_of(image, self.side, "tensorflow1"))
        elif "crop" in self.frames:
            views.append(centre_crop(squashed_for_crops(image, self.side, "tensorflow1"), self.side)[None])
        return np.concatenate(views)


def has_fast_decoder() -> bool:
    """Whether something is installed that decodes JPEG files as TensorFlow does by default."""
    return any(importlib.util.find_spec(name) is not None for name in ("simplejpeg", "tensorflow"))


def reader(framework: str, decoder: str) -> Callable[[Path], np.ndarray]:
    """Function that reads an image file as (H, W, 3) uint8 RGB.

    Args:
        framework: `tensorflow` reads by TensorFlow itself, `torch` without it where that can be.
        decoder: of JPEG files, `fast` or `accurate`.

    Raises:
        UserError: nothing that is installed decodes as asked for.
    """
    if framework == "torch" and decoder == "accurate":
        return read_rgb
    if framework == "torch" and importlib.util.find_spec("simplejpeg") is not None:
        return _read_fast
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(f"--jpeg {decoder} needs simplejpeg or TensorFlow",
                        do="pip install simplejpeg, or say --jpeg accurate")  # fmt: skip
    from dgl_tf.preprocessing import read_image

    return lambda path: read_image(path, decoder)


def _read_fast(path: Path) -> np.ndarray:
    """An image as TensorFlow's default decodes it, by simplejpeg; others than JPEG, and CMYK, as `read_rgb` does."""
    import simplejpeg

    read_size(path)  # refuses what is no image, or too large, before anything is decoded
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return read_rgb(path)
    try:
        if simplejpeg.decode_jpeg_header(content)[2] in ("CMYK", "YCCK"):
            return read_rgb(path)
        return simplejpeg.decode_jpeg(content, "RGB", fastdct=True, fastupsample=False)
    except ValueError as error:
        raise ImageError(f"the image can't be decoded ({error})", where=path, do="replace or remove it") from error


def batches(
    samples: Sequence[Sample], layout: Layout, read: Callable[[Path], np.ndarray], batch_size: int, workers: int
) -> Iterator[list[Views]]:
    """The samples' views in order, `batch_size` images at a time, loaded by threads some batches ahead.

    Args:
        samples: whose views.
        layout: which views.
        read: an image file, see `reader`.
        batch_size: images.
        workers: threads.
    """
    starts = range(0, len(samples), batch_size)
    with ThreadPoolExecutor(workers) as pool:

        def submit(start: int) -> list[Future]:
            return [pool.submit(load, sample, layout, read) for sample in samples[start : start + batch_size]]

        waiting = [submit(start) for start in starts[:AHEAD]]
        for number in range(len(starts)):
            batch = [future.result() for future in waiting.pop(0)]
            if number + AHEAD < len(starts):
                waiting.append(submit(starts[number + AHEAD]))
            yield batch


def load(sample: Sample, layout: Layout, read: Callable[[Path], np.ndarray]) -> Views:
    """One image's views, or why there are none."""
    try:
        image = read(sample.path)
    except ImageError as problem:
        return Views(sample, problem=problem.found)
    size = (image.shape[1], image.shape[0])
    return Views(sample, tuple(Frame.of_kind(FRAMES[name], size) for name in layout.frames), layout.of(image))
