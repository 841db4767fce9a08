"""Pseudo boxes by deep descriptor transforming (DDT): what the images of one class have in common.

Every position of every feature map of a group is a descriptor. The first principal direction of all descriptors
separates what the images share from their backgrounds; an image's score map is the projection of its descriptors on
it, positive on the object. This is what the paper intends; what its release computes is in
`grcam.pseudo_bbox.released`.
"""

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from common.extraction import largest_component
from grcam.config import SIDE

WHOLE = (0, SIDE - 1, 0, SIDE - 1)
"""The whole frame, x0 x1 y0 y1: the box of an image whose score is nowhere positive."""


BLOCKS = 4
"""Groups of channels whose products are taken at a time, each with itself and those after it; it is symmetric."""


class DescriptorStatistics:
    """Mean and covariance of descriptors that come in batches; memory does not grow with their number.

    Attributes:
        count: descriptors seen.
    """

    def __init__(self, channels: int, device: torch.device):
        self.count = 0
        self._shift: Tensor | None = None
        self._sum = torch.zeros(channels, dtype=torch.float64, device=device)
        self._products = torch.zeros(channels, channels, dtype=torch.float64, device=device)
        self._centre_sum = torch.zeros_like(self._sum)
        self._centre_count = 0

    def add(self, features: Tensor) -> None:
        """Take in feature maps (N, C, h, w), float32."""
        rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        if self._shift is None:  # an estimate of the mean; taking it off first keeps float32 products exact enough
            self._shift = rows.mean(dim=0)
        rows = rows - self._shift
        self.count += len(rows)
        self._sum += rows.sum(dim=0, dtype=torch.float64)
        width = -(-len(self._products) // BLOCKS)
        for start in range(0, len(self._products), width):
            block = slice(start, start + width)
            self._products[block, start:] += rows[:, block].T @ rows[:, start:]
        height, width = features.shape[2:]
        centre = features[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
        self._centre_sum += (centre - self._shift[:, None, None]).sum(dim=(0, 2, 3), dtype=torch.float64)
        self._centre_count += centre.numel() // centre.shape[1]

    def mean(self) -> Tensor:
        """(C,) float64."""
        return self._sum / self.count + self._shift

    def covariance(self) -> Tensor:
        """(C, C) float64."""
        mean = self._sum / self.count
        above = self._products.triu(1)
        return (above + above.T + self._products.diag().diag()) / self.count - torch.outer(mean, mean)

    def direction(self) -> Tensor:
        """The first principal direction (C,), float64, of length 1.

        Its sign is free; here it is the one under which the central halves of the maps project positively in the mean,
        since photographs have their objects there rather than at the edges.
        """
        direction = leading_eigenvector(self.covariance())
        centre = self._centre_sum / self._centre_count - self._sum / self.count
        return -direction if centre @ direction < 0 else direction


def leading_eigenvector(matrix: Tensor, tolerance: float = 1e-10, block: int = 8, iterations: int = 200) -> Tensor:
    """The eigenvector (C,) of the largest eigenvalue of a symmetric, positive semidefinite matrix (C, C).

    Subspace iteration on `block` vectors, which costs a hundredth of all eigenvectors; where it does not come to
    `tolerance` (of the residual, relative to the eigenvalue), all of them are computed after all.
    """
    size = len(matrix)
    if size > 4 * block:
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(size, block, generator=generator, dtype=matrix.dtype).to(matrix.device)
        for _ in range(iterations):
            basis = torch.linalg.qr(matrix @ basis).Q
            image = matrix @ basis
            values, vectors = torch.linalg.eigh(basis.T @ image)
            vector = basis @ vectors[:, -1]
            residual = torch.linalg.vector_norm(image @ vectors[:, -1] - values[-1] * vector)
            if residual <= tolerance * values[-1].abs():
                return vector
    return torch.linalg.eigh(matrix).eigenvectors[:, -1]


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
        device: where statistics are kept.
        cached: bytes of feature maps that are kept for the second look; images beyond are computed twice.

    Returns:
        x0, x1, y0, y1 in pixels of the 224 x 224 frame, by name, of all images that `features` gave.
    """
    statistics = DescriptorStatistics(channels, device)
    kept: list[tuple[Sequence[str], Tensor]] = []
    size = 0
    for some, maps in features(names):
        statistics.add(maps)
        size += maps.numel() * maps.element_size()
        if size <= cached:
            kept.append((some, maps))
    if not statistics.count:
        return {}
    direction, mean = statistics.direction().float(), statistics.mean().float()
    seen = {name for some, _ in kept for name in some}
    rest = [name for name in names if name not in seen]
    boxes = {}
    for chunk in (kept, features(rest) if rest else ()):
        for some, maps in chunk:
            scores = torch.einsum("nchw,c->nhw", maps - mean[:, None, None], direction).cpu().numpy()
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
