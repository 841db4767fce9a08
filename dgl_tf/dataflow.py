"""Training images: the release's augmentation, and tensorpack dataflows that feed it to a network.

Images are (H, W, 3) uint8 BGR as stored, like every data set's; the release's OpenCV turned them by their EXIF tag.
"""

import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from tensorpack.dataflow import BatchData, DataFlow, MultiProcessRunnerZMQ, ProxyDataFlow, RNGDataFlow

from common.datasets import Sample
from common.pictures.images import read_rgb
from common.system.errors import AGAIN, UserError
from dgl_tf.config import MARGIN
from dgl_tf.processes import ALONE, Share

WORKERS = 4
"""Processes that read images in the release."""


def read_bgr(sample: Sample, turn_by_exif: bool = False) -> np.ndarray:
    """Read a sample's image, as stored or turned upright by its EXIF tag.

    Raises:
        ImageError: it is missing or none.
    """
    return read_rgb(sample.path, "apply" if turn_by_exif else "ignore")[..., ::-1]


def cropped(image: np.ndarray, size: int, top: int, left: int, flip: bool = False) -> np.ndarray:
    """Resize to a square, cut a smaller one out of it.

    The resize works on float32 and its result is truncated, which differs by a level from resizing uint8.

    Args:
        image: (H, W, 3) uint8.
        size: side of the crop; the image is resized to `size + MARGIN`.
        top, left: the crop's corner, 0 to `MARGIN`.
        flip: mirror the crop left to right.

    Returns:
        (size, size, 3) uint8.
    """
    side = size + MARGIN
    resized = cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    crop = resized[top : top + size, left : left + size]
    crop = crop[:, ::-1] if flip else crop
    return np.clip(crop, 0, 255).astype(np.uint8)


def augmented(image: np.ndarray, size: int, random: np.random.RandomState) -> np.ndarray:
    """`cropped` at a random place, mirrored half the time; the draws are in the order of tensorpack's augmentors."""
    top, left = random.randint(MARGIN + 1), random.randint(MARGIN + 1)
    return cropped(image, size, top, left, flip=random.uniform() < 0.5)


def centred(image: np.ndarray, size: int) -> np.ndarray:
    """`cropped` in the middle, as for validation."""
    return cropped(image, size, MARGIN // 2, MARGIN // 2)


class Shuffled(RNGDataFlow):
    """Samples for ever, in a new order each pass, as [image, label]: what each worker of the release runs.

    tensorpack seeds each worker by time and process, so no two trainings see the same images. What is wrong with an
    image comes in its place, as [text]: an error that tensorpack's worker sends can be lost, since it ends right then.
    """

    def __init__(self, samples: Sequence[Sample], size: int, turn_by_exif: bool = False):
        self.samples, self.size, self.turn_by_exif = samples, size, turn_by_exif

    def __iter__(self) -> Iterator[list]:
        while True:
            for number in self.rng.permutation(len(self.samples)):
                sample = self.samples[number]
                try:
                    image = read_bgr(sample, self.turn_by_exif)
                except UserError as problem:
                    yield [str(problem)]
                else:
                    yield [augmented(image, self.size, self.rng), sample.label]


class Repeatable(DataFlow):
    """Samples for ever, in orders and crops that a seed and the image's number determine, so it can start anywhere.

    Args:
        samples: to be shown.
        size: of the crop.
        seed: of the orders and crops.
        start: how many images have been shown already.
        share: of several processes that take turns, this one's.
        turn: images of a turn.
        turn_by_exif: see `read_bgr`.
    """

    def __init__(
        self, samples: Sequence[Sample], size: int, seed: int, start: int = 0, share: Share = ALONE, turn: int = 1,
        turn_by_exif: bool = False,
    ):  # fmt: skip
        self.samples, self.size, self.seed, self.start = samples, size, seed, start
        self.share, self.turn, self.turn_by_exif = share, turn, turn_by_exif

    def _counts(self) -> Iterator[int]:
        for first in itertools.count(self.start + self.share.rank * self.turn, self.share.count * self.turn):
            yield from range(first, first + self.turn)

    def __iter__(self) -> Iterator[list]:
        drawn, order = -1, np.empty(0, int)
        for count in self._counts():
            number, place = divmod(count, len(self.samples))
            if number != drawn:
                drawn, order = number, np.random.RandomState([self.seed, 0, number]).permutation(len(self.samples))
            sample = self.samples[order[place]]
            random = np.random.RandomState([self.seed, 1, count])
            yield [augmented(read_bgr(sample, self.turn_by_exif), self.size, random), sample.label]


class InOrder(DataFlow):
    """Samples once, in their own order, as [central crop, label]."""

    def __init__(self, samples: Sequence[Sample], size: int, turn_by_exif: bool = False):
        self.samples, self.size, self.turn_by_exif = samples, size, turn_by_exif

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[list]:
        for sample in self.samples:
            yield [centred(read_bgr(sample, self.turn_by_exif), self.size), sample.label]


class Readers(MultiProcessRunnerZMQ):
    """tensorpack's, but a process that is lost ends the data; tensorpack goes on without it, or waits for ever."""

    def _recv(self) -> list:
        while True:
            ready = self.socket.poll(1000)
            lost = [process.exitcode for process in self._procs if process.exitcode is not None]
            if any(status < 0 for status in lost):  # a signal's
                raise UserError("a process that reads images was killed", expected="enough memory for all",
                                do=f"{AGAIN}, with fewer --workers")  # fmt: skip
            if ready:
                found = super()._recv()
                if isinstance(found[0], str):
                    raise UserError(found[0])
                return found
            if lost:
                raise RuntimeError(f"a process that reads images ended with status {lost[0]}")


class Watched(ProxyDataFlow):
    """Keeps what went wrong: tensorpack's queue takes any exception for the end of the data."""

    problem: Exception | None = None

    def __iter__(self) -> Iterator[list]:
        try:
            yield from self.ds
        except Exception as error:
            self.problem = error
            raise

    def reraise(self) -> None:
        """Raise what ended the data, if something did."""
        if self.problem is not None:
            raise self.problem


def training_flow(
    samples: Sequence[Sample],
    size: int,
    batch_size: int,
    workers: int,
    seed: int,
    start: int = 0,
    share: Share = ALONE,
    turn_by_exif: bool = False,
) -> DataFlow:
    """Batches for ever: [images (N, size, size, 3) uint8 BGR, labels (N,)].

    Args:
        samples: to be shown.
        size: of the crop.
        batch_size: N.
        workers: processes that read images; 0 reads in this one, repeatably.
        seed, start, share: as for `Repeatable`; processes take batches in turn.
        turn_by_exif: see `read_bgr`.
    """
    if workers == 0:
        flow = Repeatable(samples, size, seed, start, share, turn=batch_size, turn_by_exif=turn_by_exif)
        return BatchData(flow, batch_size)
    return BatchData(Readers(Shuffled(samples, size, turn_by_exif), workers), batch_size)


def validation_flow(samples: Sequence[Sample], size: int, batch_size: int, turn_by_exif: bool = False) -> DataFlow:
    """Each image once, in batches, the last one shorter."""
    return BatchData(InOrder(samples, size, turn_by_exif), batch_size, remainder=True)
