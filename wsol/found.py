"""A method's findings on one picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.measuring.geometry import Frame
from common.pictures.overlays import check_ending, draw, encode
from common.runs.localizing import Box
from common.system.errors import UserError
from common.system.files import write_atomically

ROUNDING = 1e-6
"""Distance by which enlarging moves equal values apart."""


@dataclass(frozen=True, eq=False, repr=False)
class Found:
    """A method's findings on one picture.

    Attributes:
        image: (H, W, 3) uint8 RGB, the upright picture.
        frame: which part of it the network saw, at which size.
        map: localization map (h, w) float32 in [0, 1], in the frame's size.
        rule: how a box is made of the map, and the threshold of `box`.
        method, architecture: what made it.
        probabilities: (K,) float32, the softmax of the scores; of a single score, or where `sigmoid` was said, the
            sigmoid; None where there is no classifier. The softmax of a network that gives several labels at once
            tells their order alone.
        class_names: of K classes; None where they are unknown.
        label: the class that was asked for; None where the method chose.
    """

    image: np.ndarray
    frame: Frame
    map: np.ndarray
    rule: Box
    method: str
    architecture: str
    probabilities: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    label: int | None = None

    @property
    def box(self) -> np.ndarray | None:
        """The box (4,) `x0 y0 x1 y1` in pixels of the upright picture, end-exclusive; None where none is found."""
        found = self.rule.of(self.map)
        return None if found is None else self.frame.to_original(found)[0]

    @property
    def threshold(self) -> float:
        """The threshold of the map that `box` is made with."""
        return self.rule.threshold

    def boxes(self, threshold: float | None = None) -> np.ndarray:
        """Make the boxes of another threshold: (K, 4) as `box`, K 0 where none is found.

        Args:
            threshold: in [0, 1]; by default the method's own.

        Raises:
            UserError: another threshold.
        """
        (found,) = self.rule.extractor.boxes(self.map, [self._at(threshold)])
        return self.frame.to_original(found)

    def mask(self, threshold: float | None = None) -> np.ndarray:
        """Mark the pixels (H, W) bool of the picture where the map, enlarged bilinearly, exceeds a threshold.

        A plateau at the threshold is in neither the mask nor `boxes`. Their edges may lie up to a pixel of the map
        apart, and, of DGL and GRCAM, whose boxes are cut from 256 greys, where the map exceeds it by less than a grey.

        Args:
            threshold: in [0, 1]; by default the method's own.

        Raises:
            UserError: another threshold.
        """
        x, y, width, height = self.frame.crop
        canvas = np.full(self.frame.resized[::-1], -1.0, np.float32)
        canvas[y : y + height, x : x + width] = self.map
        enlarged = cv2.resize(canvas, self.image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return enlarged > self._at(threshold) + ROUNDING

    def _at(self, threshold: float | None) -> float:
        if threshold is None:
            return self.threshold
        if not 0 <= threshold <= 1:
            raise UserError(f"threshold {threshold}", expected="0 to 1")
        return threshold

    @property
    def top5(self) -> tuple[tuple[int | str, float], ...] | None:
        """The five best classes, by name where they have one, and their probabilities; None without a classifier."""
        if self.probabilities is None:
            return None
        best = np.argsort(-self.probabilities, kind="stable")[:5]
        return tuple((self._name(int(number)), float(self.probabilities[number])) for number in best)

    @property
    def class_index(self) -> int | None:
        """The best class's number; None without a classifier."""
        return None if self.probabilities is None else int(self.probabilities.argmax())

    @property
    def class_name(self) -> int | str | None:
        """The best class's name, or its number where names are unknown; None without a classifier."""
        return None if self.class_index is None else self._name(self.class_index)

    @property
    def score(self) -> float | None:
        """The best class's probability; None without a classifier."""
        return None if self.probabilities is None else float(self.probabilities[self.class_index])

    def _name(self, number: int) -> int | str:
        return self.class_names[number] if self.class_names and number < len(self.class_names) else number

    def picture(self) -> np.ndarray:
        """Draw the picture under its map, with the box: (H, W, 3) uint8 RGB."""
        box = self.rule.of(self.map)
        longest = max(self.image.shape[:2])
        return draw(self.image, self.frame, self.map, box, np.empty((0, 4)), longest=longest)[1]

    def save(self, path: str | Path) -> Path:
        """Write `picture` as a JPEG, PNG or PDF file, by its ending, and return its path.

        Raises:
            UserError: another ending.
        """
        path = Path(path)
        check_ending(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(encode(self.picture(), path.suffix)))
        return path

    def classified(self) -> dict[str, Any]:
        """The best class and its score, as `boxes.jsonl` has them, and as `label` the class that was asked for, whose
        the box is; nothing without a classifier.
        """
        if self.probabilities is None or self.score is None:
            return {}
        asked = {} if self.label is None else {"label": self._name(self.label)}
        return {"class": self.class_name, "score": round(self.score, 6), **asked}

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        where = "no box" if self.box is None else "box " + " ".join(f"{value:.1f}" for value in self.box)
        what = "" if self.probabilities is None else f", {self.class_name} ({self.score:.2f})"
        where += "" if self.label is None else f" of {self._name(self.label)}"
        return (
            f"<Found by {self.method} {self.architecture} on {width} x {height}: {where} @{self.threshold:.3g}{what}>"
        )
