"""Signs, in true boxes or best classes as a whole, that they are of another form than they were read as.

No single image shows it: what is said is for people to look at, and changes no figure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from common.measuring.arrays import Boxes, Floats
from common.measuring.boxes import as_boxes
from common.system.wording import number_of

MANY_OUT = 0.05
"""Share of images whose boxes may stick out by more than a pixel before it is said; few of CUB's do."""
FEWEST = 3
"""Images below which the place of boxes says nothing."""
BY_CHANCE = 0.1
ALL_BELOW, MEAN_BELOW = 0.42, 0.45
"""Shares of width and height. In 3 of 100 of CUB's images the box's centre lies below the first in both."""


def doubts(names: Sequence[str], boxes: Sequence[ArrayLike], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Describe what is odd about the true boxes of N images: many stick out, some are fractions, all are
    percent, or they lie in the upper left.

    Args:
        names: of the images.
        boxes: (M, 4) each, M at least 1, `x0 y0 x1 y1` in pixels of the original image.
        sizes: width and height of each image.
    """
    found = [as_boxes(each) for each in boxes]
    out = [name for name, each, size in zip(names, found, sizes, strict=True)
           if (each[:, 2:] > np.array(size) + 1).any()]  # fmt: skip
    said = []
    if len(out) > MANY_OUT * len(found):
        said.append(
            f"the true boxes of {len(out)} of {len(found)} images stick out of the image, of {out[0]} among them, as "
            "corners do that are read as a corner and sides, or pixels of another size"
        )
    fractions = [
        name
        for name, each in zip(names, found, strict=True)
        if ((each.max(axis=1) <= 1) & (each.min(axis=1) > -1)).any()
    ]
    if fractions:
        said.append(f"true boxes of {len(fractions)} of {len(found)} images lie within 0 to 1, as fractions of the "
                    f"image do, of {fractions[0]} among them")  # fmt: skip
    centres = np.array([(each[:, :2] + each[:, 2:]).mean(axis=0) / 2 / size
                        for each, size in zip(found, sizes, strict=True)])  # fmt: skip
    images = number_of(len(found), "image", "images")
    scale = _scale(found, sizes) if (centres.mean(axis=0) < MEAN_BELOW).all() else None
    if scale is not None:
        said.append(
            f"the true boxes of {images} all lie within 0 to {scale}, though the images are larger, as "
            f"boxes do that are given in {'percent' if scale == 100 else 'thousandths'} of the image"
        )
    elif _in_upper_left(centres):
        x, y = centres.mean(axis=0)
        said.append(
            f"the true boxes of {images} lie in the upper left, their centres in the mean at {x:.2f} of the "
            f"width and {y:.2f} of the height, as boxes do that are given in pixels of a smaller picture, or as a "
            "corner and sides that are read as corners"
        )
    return said


def _scale(boxes: Sequence[Boxes], sizes: Sequence[tuple[int, int]]) -> int | None:
    """The scale that boxes seem to have in place of their images' pixels, 100 or 1000.

    That all of them end within it by chance must be rare, were a corner as likely anywhere in its image.
    """
    greatest = max(each.max() for each in boxes)
    for scale in (100, 1000):
        chances = [scale * scale / (width * height) if min(width, height) > scale else 1.0 for width, height in sizes]
        if len(boxes) >= FEWEST and 0.6 * scale <= greatest <= scale and np.prod(chances) < BY_CHANCE:
            return scale
    return None


def _in_upper_left(centres: Floats) -> bool:
    """Whether centres (N, 2) lie there in all images, or in the mean by three standard errors."""
    if len(centres) < FEWEST:
        return False
    error = centres.std(axis=0, ddof=1) / np.sqrt(len(centres))
    return bool((centres < ALL_BELOW).all() or (centres.mean(axis=0) + 3 * error < MEAN_BELOW).all())


FEWEST_CLASSIFIED, FEWEST_IN_ANY_ORDER = 10, 20
"""Images below which best classes say nothing of the classes' numbers: of ones moved by one, and of any others."""
FEWEST_OF_A_CLASS = 5
TOO_FEW_RIGHT = 0.2
"""Greatest quotient of what is right by what would be, at which classes are said to have other numbers."""


def class_doubts(labels: Sequence[int], best: Sequence[Sequence[int]]) -> list[str]:
    """Describe what is odd about the best classes of N images: they fit the true ones, with other numbers or reversed.

    Args:
        labels: N true classes.
        best: each image's best classes, best first.
    """
    if len(labels) < FEWEST_CLASSIFIED or not all(map(len, best)):
        return []
    pairs = list(zip(labels, best, strict=True))
    right, last = (sum(label == found[place] for label, found in pairs) / len(pairs) for place in (0, -1))
    if last > 0.5 and right <= TOO_FEW_RIGHT * last:
        return [f"the first of the best classes is right for {right:.0%} of the images, and the last for {last:.0%}, "
                "as where they are in ascending order"]  # fmt: skip
    firsts: dict[int, Counter[int]] = {}
    for label, found in pairs:
        firsts.setdefault(label, Counter())[found[0]] += 1
    text = _by_one(firsts) or _in_another_order(firsts)
    return [] if text is None else [f"the best class is right for {right:.0%} of the images, and {text}"]


def _share(of_class: Counter[int], number: int) -> float:
    return of_class[number] / of_class.total()


def _mean_share(firsts: Mapping[int, Counter[int]], moved: int) -> float:
    """Share of a class's images that are called as the class `moved` numbers on, in the mean over classes."""
    return sum(_share(of_class, label + moved) for label, of_class in firsts.items()) / len(firsts)


def _by_one(firsts: Mapping[int, Counter[int]]) -> str | None:
    """Whether true classes are called as the next, or the one before; of two classes the order is all that can be."""
    right = _mean_share(firsts, 0)
    for moved, word in ((1, "higher"), (-1, "lower")):
        share = _mean_share(firsts, moved)
        if len(firsts) > 2 and share > 0.5 and right <= TOO_FEW_RIGHT * share:
            return f"would be for {share:.0%} if labels were one {word}, as where one of the two is counted from 1"
    return None


def _in_another_order(firsts: Mapping[int, Counter[int]]) -> str | None:
    """Whether most images of each class are called as one other class, and those of no two as the same one."""
    large = {label: of_class for label, of_class in firsts.items() if of_class.total() >= FEWEST_OF_A_CLASS}
    if len(large) < 2 or sum(of_class.total() for of_class in large.values()) < FEWEST_IN_ANY_ORDER:
        return None
    called = {label: of_class.most_common(1)[0][0] for label, of_class in large.items()}
    share = sum(_share(of_class, called[label]) for label, of_class in large.items()) / len(large)
    if len({*called.values()}) < len(called) or share < 0.6 or _mean_share(large, 0) > TOO_FEW_RIGHT * share:
        return None
    label = next(label for label in called if called[label] != label)
    return (f"{share:.0%} of a class's images are called as one class, those of class {label} as {called[label]}: as "
            "where classes are in another order")  # fmt: skip
