"""The object that localizes pictures, whatever the method."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from PIL import Image

from common.measuring.geometry import FRAMES, Frame
from common.pictures.images import from_pillow, read_photograph
from common.runs.localizing import Box
from common.system.errors import UserError
from wsol.found import Found

Picture = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Seen:
    """A method's view of one picture: its map in the frame's size, and class probabilities or None."""

    frame: Frame
    localization_map: np.ndarray
    probabilities: np.ndarray | None


class Method(Protocol):
    """A method with its network, in either framework.

    Attributes:
        name, architecture: what it is.
        class_names: of its classes; None where they are unknown.
        box: how a box is made, by default.
    """

    name: str
    architecture: str
    class_names: tuple[str, ...] | None
    box: Box

    @property
    def num_classes(self) -> int | None:
        """K; None without a classifier."""

    def read(self, path: Path) -> np.ndarray:
        """Decode a photograph as the method does, turned upright: (H, W, 3) uint8 RGB."""

    def look(self, images: Sequence[np.ndarray], kind: str, labels: Sequence[int] | None) -> list[Seen]:
        """Make maps of pictures (H, W, 3) uint8 RGB in a kind of frame, of their labels or the method's own choice."""


class UprightReader:
    """The reading of photographs that PyTorch's methods share."""

    def read(self, path: Path) -> np.ndarray:
        """Decode a photograph, turned upright by its EXIF tag."""
        return read_photograph(path)


class Localizer:
    """A method with its network, that localizes pictures.

    Args:
        method: what does it.
        frame: `squash`, the whole picture, or `crop`, its centre as the papers measure.
        threshold: of the box; by default the method's.
    """

    def __init__(self, method: Method, frame: str = "squash", threshold: float | None = None):
        if frame not in FRAMES:
            raise UserError(f"frame {frame!r}", expected=" or ".join(FRAMES))
        self.method, self.kind = method, FRAMES[frame]
        self.rule = method.box if threshold is None else Box(method.box.extractor, threshold)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The network's classes; None where they are unknown."""
        return self.method.class_names

    def __call__(self, picture: Picture, label: int | str | None = None) -> Found:
        """Localize the object on one picture.

        Args:
            picture: a path, a Pillow image (both are turned upright by their EXIF tag), or (H, W, 3) uint8 RGB; what
                OpenCV reads is BGR and wants `image[..., ::-1]`.
            label: whose map is wanted, by number or name (GT-known); by default the method chooses, by its scores.

        Raises:
            UserError: a file that is no readable image, a class that the network has not, or one for SPOL, whose map is
                of no class.
        """
        return self._localized([self.open(picture)], label)[0]

    def many(self, pictures: Iterable[Picture], batch_size: int = 8, label: int | str | None = None) -> Iterator[Found]:
        """Localize the objects on many pictures, `batch_size` at a time; the next are read meanwhile.

        Args:
            pictures: as for a call.
            batch_size: pictures that the network sees together.
            label: as for a call, of all.
        """
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}", expected="1 or more")
        if isinstance(pictures, str | bytes | os.PathLike | Image.Image) or getattr(pictures, "ndim", 4) in (2, 3):
            raise UserError("one picture", expected="several", do="call the localizer with it, or give a list")
        rest = iter(pictures)
        with ThreadPoolExecutor(2) as pool:
            coming = [pool.submit(self.open, picture) for picture in islice(rest, batch_size)]
            while coming:
                now, coming = coming, [pool.submit(self.open, picture) for picture in islice(rest, batch_size)]
                yield from self._localized([future.result() for future in now], label)

    def group(self, pictures: Iterable[Picture]) -> NoReturn:
        """Refuse, in one line: GRCAM's pseudo boxes are made by its own steps.

        Raises:
            UserError: always.
        """
        raise UserError(
            "pseudo boxes come from what many images of one predicted class have in common, a group",
            expected="a data set", do="run grcam/run_test.sh on it; one picture's refined map needs no group",
        )  # fmt: skip

    def open(self, picture: Picture) -> np.ndarray:
        """Turn a picture into (H, W, 3) uint8 RGB, upright.

        Raises:
            UserError: a file that is no readable image, or another kind of array.
        """
        if isinstance(picture, str | os.PathLike):
            return self.method.read(Path(picture))
        if isinstance(picture, Image.Image):
            return from_pillow(picture)
        expected = "a path, a Pillow image, or (H, W, 3) uint8 RGB"
        if not hasattr(picture, "__array__"):
            raise UserError(f"a picture that is of the kind {type(picture).__name__}", expected=expected)
        try:
            array = np.asarray(picture)
        except (TypeError, RuntimeError, ValueError) as error:  # a tensor on another device, or with a gradient
            raise UserError(f"a {type(picture).__name__} that is no array ({error})", expected=expected) from error
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise UserError(f"a picture of {array.dtype} {array.shape}", expected=expected)
        return array

    def label_number(self, label: int | str | None) -> int | None:
        """Turn a class's name into its number.

        Raises:
            UserError: there is no such class, there are two, or the method's map is of none.
        """
        names, count = self.method.class_names, self.method.num_classes
        if label is None:
            return None
        if self.method.name == "spol":
            raise UserError(f"class {label!r} for spol, whose map is of no class", do="leave label out")
        if count is None:
            return None
        if isinstance(label, str):
            return _named(label, names)
        if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer) or not 0 <= label < count:
            raise UserError(f"no class {label}", expected=f"a whole number, 0 to {count - 1}, or a name")
        return int(label)

    def _localized(self, images: list[np.ndarray], label: int | str | None) -> list[Found]:
        number, method = self.label_number(label), self.method
        seen = method.look(images, self.kind, None if number is None else [number] * len(images))
        return [
            Found(
                image, one.frame, one.localization_map, self.rule, method.name, method.architecture,
                one.probabilities, method.class_names, number,
            )
            for image, one in zip(images, seen, strict=True)
        ]  # fmt: skip

    def __repr__(self) -> str:
        method: Any = self.method
        classes = "no classifier" if method.num_classes is None else f"{method.num_classes} classes"
        return f"<Localizer {method.name} {method.architecture}, {classes}, @{self.rule.threshold:.3g}>"


def _named(label: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise UserError(f"no class {label!r}", expected="numbers, since names are unknown")
    numbers = [number for number, name in enumerate(names) if name == label]
    if len(numbers) > 1:
        raise UserError(f"{len(numbers)} classes are called {label!r}: {', '.join(map(str, numbers))}",
                        do="give the number of the one that you mean")  # fmt: skip
    if not numbers:
        alike = [name for name in names if name.lower() == label.lower()]
        near = alike or get_close_matches(label, names, 3, 0.7)
        expected = f"one of {', '.join(near)}" if near else f"one of {', '.join(names[:5])}, ..."
        raise UserError(f"no class {label!r}", expected=expected)
    return numbers[0]
