"""Layers that are no maps (N, C, h, w): how their outputs become some, as `reshape` of `Mapper` takes it.

A reshape must be linear, since gradients go through it too: it may leave tokens out and order the others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from common.system.errors import UserError

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Tokens:
    """Makes maps of tokens; see `tokens`."""

    prefix: int
    shape: tuple[int, int] | None

    def __call__(self, output: Tensor) -> Tensor:
        if output.ndim != 3:
            raise UserError(f"a layer gives {tuple(output.shape)}", expected="tokens (N, T, C)", do="take another")
        places = output[:, self.prefix :]
        height, width = self.shape or (math.isqrt(places.shape[1]),) * 2
        if height * width != places.shape[1]:
            raise UserError(f"{places.shape[1]} tokens behind the first {self.prefix} don't fill {height} x {width}",
                            do="say another prefix or shape")  # fmt: skip
        return places.transpose(1, 2).unflatten(2, (height, width))


def tokens(prefix: int = 1, shape: tuple[int, int] | None = None) -> Reshape:
    """Tokens (N, T, C) as a map (N, C, h, w), row by row.

    Args:
        prefix: tokens in front that are no places: 1 for a class token, 5 for one and four registers, 0 for none.
        shape: h and w; by default a square.

    Raises:
        UserError: of the function that is given, where the tokens don't fill the shape.
    """
    return _Tokens(prefix, shape)


def channels_last(output: Tensor) -> Tensor:
    """A map (N, h, w, C), as Swin's blocks give it, as (N, C, h, w)."""
    if output.ndim != 4:
        raise UserError(f"a layer gives {tuple(output.shape)}", expected="a map (N, h, w, C)", do="take another")
    return output.movedim(3, 1)


def is_map(values: Tensor, images: Tensor) -> bool:
    """Whether a tensor is (N, C, h, w), by h and w being to each other as the images' are, or nearly.

    What has its channels last passes for a map by its number of dimensions alone: it is none where it has the images'
    proportions, to a pixel, in its second and third dimension and not in its third and fourth.
    """
    if values.ndim != 4 or 0 in values.shape:
        return False
    proportions = images.shape[2] / images.shape[3]
    _, first, second, third = values.shape
    if abs(first - second * proportions) < 1 <= abs(second - third * proportions):
        return False
    return 1 / 3 < second / third / proportions < 3
