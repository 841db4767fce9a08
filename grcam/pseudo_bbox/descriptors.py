"""Pseudo boxes by deep descriptor transforming (DDT): what the images of one class have in common.

Every position of every feature map of a group is a descriptor. The first principal direction of all descriptors
separates what the images share from their backgrounds; an image's score map is the projection of its descriptors on
it, positive on the object. This is what the paper intends; what its release computes is in
`grcam.pseudo_bbox.released`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import cv2
import numpy as np
import torch
from torch import Tensor

from common.measuring.extraction import largest_component
from grcam.config import SIDE

WHOLE = (0, SIDE - 1, 0, SIDE - 1)
"""The whole frame, x0 x1 y0 y1: the box of an image whose score is nowhere positive."""


BLOCKS = 4
"""Groups of channels whose products are taken at a time, each with itself and those after it; it is symmetric."""
PRECISE = 1e-6
"""The tolerance of a principal direction; products of float32 come to a tenth of it."""


class Descriptors:
    """A group's descriptors, which come in batches: so many are kept, of the others only the sum of their products.

    Args:
        channels: C.
        device: where they are kept.
        keep: bytes; memory beyond does not grow with the number of descriptors.

    Attributes:
        count: descriptors seen.
        shift: (C,) float32, the first batch's mean. It is taken off all, or products in float32 were not exact enough.
        kept: batches of feature maps (N, C, h, w) float32.
    """

    def __init__(self, channels: int, device: torch.device, keep: int = 2**30):
        self.count = 0
        self.shift: Tensor | None = None
        self.kept: list[Tensor] = []
        self._room = keep
        self._products: Tensor | None = None  # (C, C), of those not kept; below the blocks on the diagonal it is zero
        self._sum = torch.zeros(channels, dtype=torch.float64, device=device)
        self._centre_sum = torch.zeros_like(self._sum)
        self._centre_count = 0

    def add(self, features: Tensor) -> bool:
        """Take in feature maps (N, C, h, w), float32; gives whether they are kept."""
        shifted = self.shifted(features)
        height, width = features.shape[2:]
        centre = shifted[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
        self.count += shifted[:, 0].numel()
        self._sum += shifted.sum(dim=(0, 2, 3), dtype=torch.float64)
        self._centre_count += centre[:, 0].numel()
        self._centre_sum += centre.sum(dim=(0, 2, 3), dtype=torch.float64)
        self._room -= shifted.numel() * shifted.element_size()
        if self._room >= 0:
            self.kept.append(shifted)
        else:
            self._add_products(shifted.transpose(0, 1).flatten(1))
        return self._room >= 0

    def shifted(self, features: Tensor) -> Tensor:
        """Feature maps (N, C, h, w) less `shift`, which the first ones determine."""
        if self.shift is None:
            self.shift = features.mean(dim=(0, 2, 3))
        return features - self.shift[:, None, None]

    def _add_products(self, columns: Tensor) -> None:
        if self._products is None:
            self._products = torch.zeros(len(columns), len(columns), dtype=torch.float64, device=columns.device)
        width = -(-len(columns) // BLOCKS)
        for start in range(0, len(columns), width):
            self._products[start : start + width, start:] += columns[start : start + width] @ columns[start:].T

    def drift(self) -> Tensor:
        """The mean of all, less `shift`; (C,) float64."""
        return self._sum / self.count

    def covariance_times(self, vectors: Tensor) -> Tensor:
        """The covariance matrix (C, C), which is not made for it, times (C, K) float64."""
        result, single = torch.zeros_like(vectors), vectors.float()
        for columns in (maps.flatten(2) for maps in self.kept):
            result += (columns @ (columns.mT @ single)).sum(dim=0, dtype=torch.float64)
        if self._products is not None:
            result += self._products.triu() @ vectors + self._products.triu(1).T @ vectors
        return result / self.count - torch.outer(self.drift(), self.drift() @ vectors)

    def direction(self) -> Tensor:
        """The first principal direction (C,), float64, of length 1.

        Its sign is free; here it is the one under which the central halves of the maps project positively in the mean,
        since photographs have their objects there rather than at the edges.
        """
        direction = leading_eigenvector(self.covariance_times, self._sum, PRECISE)
        centre = self._centre_sum / self._centre_count - self.drift()
        return -direction if centre @ direction < 0 else direction


def leading_eigenvector(
    times: Callable[[Tensor], Tensor],
    like: Tensor,
    tolerance: float,
    block: int = 8,
    iterations: int = 200,
) -> Tensor:
    """The eigenvector (C,) of the largest eigenvalue of a symmetric, positive semidefinite matrix (C, C).

    Subspace iteration on `block` vectors, which needs the matrix's products alone; where it does not come to
    `tolerance`, all eigenvectors are computed after all.

    Args:
        times: the matrix times (C, K).
        like: any (C,) of the matrix's type and device.
        tolerance: of the residual, relative to the eigenvalue.
        block: vectors.
        iterations: at most.
    """
    size = len(like)
    if size > 4 * block:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(size, block, generator=generator, dtype=like.dtype).to(like.device)
        for _ in range(iterations):
            basis = torch.linalg.qr(image).Q
            image = times(basis)
            values, vectors = torch.linalg.eigh(basis.T @ image)
            vector = basis @ vectors[:, -1]
            residual = torch.linalg.vector_norm(image @ vectors[:, -1] - values[-1] * vector)
            if residual <= tolerance * values[-1].abs():
                return vector
    return torch.linalg.eigh(times(torch.eye(size, dtype=like.dtype, device=like.device))).eigenvectors[:, -1]


def pseudo_boxes(
    names: Sequence[str],
    features: Callable[[Sequence[str]], Iterable[tuple[Sequence[str], Tensor]]],
    channels: int,
    device: torch.device,
    cached: int = 2**30,
) -> dict[str, tuple[int, int, int, int]]:
    """The pseudo box of every image of a group, one image or more.

    Args:
        names: of the images.
        features: given names, yields some of them at a time with their feature maps (N, C, h, w) on `device`.
        channels: C.
        device: where descriptors are kept.
        cached: bytes of them that are kept; images beyond are computed twice.

    Returns:
        x0, x1, y0, y1 in pixels of the 224 x 224 frame, by name, of all images that `features` gave.
    """
    group = Descriptors(channels, device, cached)
    kept = [some for some, maps in features(names) if group.add(maps)]
    if not group.count:
        return {}
    direction, drift = group.direction().float(), group.drift().float()
    seen = {name for some in kept for name in some}
    rest = [name for name in names if name not in seen]
    again = ((some, group.shifted(maps)) for some, maps in (features(rest) if rest else ()))
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for some, maps in chain(zip(kept, group.kept, strict=True), again):
        scores = torch.einsum("nchw,c->nhw", maps - drift[:, None, None], direction).cpu().numpy()
        boxes.update(zip(some, map(box_of_scores, scores), strict=True))
    return boxes


def box_of_scores(scores: np.ndarray) -> tuple[int, int, int, int]:
    """The box x0 x1 y0 y1 around the largest component of positive score; the whole frame where there is none.

    Args:
        scores: (h, w), enlarged to 224 x 224 bicubically, as the release does.
    """
    enlarged = cv2.resize(scores.astype(np.float64), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    found = largest_component((enlarged > 0).astype(np.uint8))
    return in_frame(found[0]) if len(found) else WHOLE


def in_frame(box: np.ndarray) -> tuple[int, int, int, int]:
    """An end-exclusive box x0 y0 x1 y1 as x0 x1 y0 y1, never past the last pixel (quirk Q17)."""
    x0, y0, x1, y1 = (int(value) for value in np.minimum(box, SIDE - 1))
    return x0, x1, y0, y1
