"""What the classifier sees of an image: the whole of it squashed, and ten crops; decoded by TensorFlow as released.

TensorFlow decodes JPEG files with the fast, less exact inverse cosine transform, which moves most samples by a grey
level or more (quirk Q20). Everything after that is
`common.pictures.images`: TensorFlow 1's legacy grid without TensorFlow.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from common.datasets import Sample
from common.measuring.geometry import FRAMES, Frame
from common.pictures.images import CENTRE_CROP, ImageError, centre_crop, resize, ten_crops
from dgl_tf.preprocessing import read_image
from grcam.config import CROPS_FROM, SIDE

AHEAD = 2
"""Batches that are loaded ahead."""


@dataclass(frozen=True, eq=False)
class Views:
    """One image ready for the network.

    Attributes:
        sample: which.
        frames: where the views that maps are made of lie in it.
        views: (V, 224, 224, 3) float32 RGB in [0, 255]: the squashed image first, then the crops.
        problem: set instead of the views when the image can't be used.
    """

    sample: Sample
    frames: tuple[Frame, ...] = ()
    views: np.ndarray | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Layout:
    """Which views there are of an image.

    Attributes:
        frames: names of the frames that maps are made in, `squash` first.
        crops: 10, or 1 for the squashed image alone.
    """

    frames: tuple[str, ...]
    crops: int

    @property
    def mapped(self) -> tuple[int, ...]:
        """The views that maps are made of, one for each frame."""
        places = {"squash": 0, "crop": 1 + CENTRE_CROP if self.crops == 10 else 1}
        return tuple(places[name] for name in self.frames)

    @property
    def classified(self) -> slice:
        """The views whose probabilities are averaged."""
        return slice(1, None) if self.crops == 10 else slice(0, 1)

    def of(self, image: np.ndarray) -> np.ndarray:
        """The views (V, 224, 224, 3) float32 of an image (H, W, 3) uint8."""
        views = [resize(image, (SIDE, SIDE), "tensorflow1")[None]]
        if self.crops == 10:
            views.append(ten_crops(resize(image, (CROPS_FROM, CROPS_FROM), "tensorflow1"), SIDE))
        elif "crop" in self.frames:
            views.append(centre_crop(resize(image, (CROPS_FROM, CROPS_FROM), "tensorflow1"), SIDE)[None])
        return np.concatenate(views)


def batches(
    samples: Sequence[Sample], layout: Layout, decoder: str, batch_size: int, workers: int
) -> Iterator[list[Views]]:
    """The samples' views in order, `batch_size` images at a time, loaded by threads some batches ahead.

    Args:
        samples: whose views.
        layout: which views.
        decoder: of JPEG files, `fast` or `accurate`.
        batch_size: images.
        workers: threads.
    """
    starts = range(0, len(samples), batch_size)
    with ThreadPoolExecutor(workers) as pool:

        def submit(start: int) -> list[Future]:
            return [pool.submit(load, sample, layout, decoder) for sample in samples[start : start + batch_size]]

        waiting = [submit(start) for start in starts[:AHEAD]]
        for number in range(len(starts)):
            batch = [future.result() for future in waiting.pop(0)]
            if number + AHEAD < len(starts):
                waiting.append(submit(starts[number + AHEAD]))
            yield batch


def load(sample: Sample, layout: Layout, decoder: str) -> Views:
    """One image's views, or why there are none."""
    try:
        image = read_image(sample.path, decoder)
    except ImageError as problem:
        return Views(sample, problem=problem.found)
    size = (image.shape[1], image.shape[0])
    return Views(sample, tuple(Frame.of_kind(FRAMES[name], size) for name in layout.frames), layout.of(image))
