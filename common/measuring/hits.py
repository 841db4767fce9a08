"""Images hit at each threshold, a bit each: what intervals and paired comparisons are computed from.

50,000 images under every protocol of a frame take some 40 MB.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from common.measuring.arrays import Flags, Indices, Integers

CHUNK = 2048
"""Images whose bits are unpacked at a time."""


class Hits:
    """Hits (criteria, thresholds) of images, in the order they were added.

    Args:
        criteria, thresholds: how many there are of each.
    """

    def __init__(self, criteria: int, thresholds: int):
        self.shape = (criteria, thresholds)
        self.ids: list[str] = []
        self._labels: list[int] = []
        self._first, self._five = bytearray(), bytearray()
        self._correct, self._counted = bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, image_id: str, label: int, correct: Flags, counted: Flags, first: bool, five: bool) -> None:
        """Add one image.

        Args:
            image_id: tells it from the others.
            label: its class.
            correct: (criteria, T) bool, False where it is not counted.
            counted: (T,) bool, whether it is in the denominator.
            first, five: whether the classifier's best class, or one of its best five, is right.
        """
        self.ids.append(image_id)
        self._labels.append(label)
        self._first.append(first)
        self._five.append(five)
        self._correct += np.packbits(correct).tobytes()
        self._counted += np.packbits(counted).tobytes()

    def merge(self, other: "Hits") -> None:
        """Add another's images."""
        self.ids += other.ids
        self._labels += other._labels
        for name in ("_first", "_five", "_correct", "_counted"):
            getattr(self, name).extend(getattr(other, name))

    @property
    def labels(self) -> Integers:
        """(N,) classes."""
        return np.array(self._labels, dtype=np.int64)

    @property
    def first(self) -> Flags:
        """(N,) bool, whether the best class is right."""
        return np.frombuffer(bytes(self._first), np.uint8).astype(bool)

    @property
    def five(self) -> Flags:
        """(N,) bool, whether one of the best five classes is right."""
        return np.frombuffer(bytes(self._five), np.uint8).astype(bool)

    def order(self) -> Integers:
        """(N,) positions sorted by id, so that shards which were merged in any order count as one run does."""
        return np.array(sorted(range(len(self)), key=self.ids.__getitem__), dtype=np.int64)

    def places(self, ids: Sequence[str]) -> Integers:
        """(n,) positions of images by id.

        Raises:
            KeyError: one is not among them.
        """
        place = {image_id: number for number, image_id in enumerate(self.ids)}
        return np.array([place[image_id] for image_id in ids], dtype=np.int64)

    def correct(self, images: Integers | slice = slice(None)) -> Flags:
        """(n, criteria, T) bool of some images."""
        width = self.shape[0] * self.shape[1]
        return _unpacked(self._correct, len(self), width, images).reshape(-1, *self.shape)

    def counted(self, images: Integers | slice = slice(None)) -> Flags:
        """(n, T) bool of some images."""
        return _unpacked(self._counted, len(self), self.shape[1], images)

    def at(self, indices: Indices) -> tuple[Flags, Flags]:
        """Hits and denominators of every image, each criterion at its own threshold index: (N, criteria) bool each."""
        rows, columns = np.arange(self.shape[0]), np.asarray(indices)
        correct, counted = np.empty((2, len(self), self.shape[0]), bool)
        for chunk in chunks(len(self)):
            correct[chunk] = self.correct(chunk)[:, rows, columns]
            counted[chunk] = self.counted(chunk)[:, columns]
        return correct, counted


def chunks(images: int) -> Iterator[slice]:
    """All images, `CHUNK` at a time."""
    return (slice(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK))


def _unpacked(packed: bytearray, images: int, width: int, some: Integers | slice) -> Flags:
    rows = np.frombuffer(packed, np.uint8).reshape(images, -1)[some]
    return np.unpackbits(rows, axis=1, count=width).astype(bool)
