"""Affinities of pixel pairs from class boundaries (IRN): the paths, the losses that train them, and the random walk.

Two pixels belong together if no boundary lies on the straight path between them: affinity = 1 - the greatest boundary
on the path. Pairs are a source and one of the directions of a half disc, so that each pair occurs once.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import ceil

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Direction:
    """A displacement from a source, and the points of the path to it.

    Attributes:
        to: (dy, dx), down or straight right.
        path: relative (y, x), the destination first, (0, 0) last.
    """

    to: tuple[int, int]
    path: tuple[tuple[int, int], ...]


def margin(radius: float) -> int:
    """Farthest reach of a direction: sources keep that distance from the left, right and lower border."""
    return ceil(radius) - 1


@cache
def directions(radius: int) -> tuple[Direction, ...]:
    """The directions within a radius, in the order of IRN's files: by the length of their paths, then by row."""
    found = [(0, x) for x in range(1, radius)]
    found += [(y, x) for y in range(1, radius) for x in range(1 - radius, radius) if x * x + y * y < radius * radius]
    return tuple(sorted((Direction(to, _path(*to)) for to in found), key=lambda each: len(each.path)))


def _path(dy: int, dx: int) -> tuple[tuple[int, int], ...]:
    rows = range(min(0, dy), max(0, dy) + 1)
    columns = range(min(0, dx), max(0, dx) + 1)
    points = [(y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
    return tuple(sorted(points, key=lambda point: -abs(point[0]) - abs(point[1])))


def grouped(radius: int) -> list[tuple[Direction, ...]]:
    """The directions in groups whose paths are equally long."""
    return [tuple(group) for _, group in groupby(directions(radius), key=lambda each: len(each.path))]


def source_indices(radius: int, size: tuple[int, int]) -> np.ndarray:
    """(sources,) row-major numbers of the pixels that all directions lead from, in a grid (height, width)."""
    height, width, edge = *size, margin(radius)
    return np.arange(height * width).reshape(height, width)[: height - edge, edge : width - edge].ravel()


def path_indices(radius: int, size: tuple[int, int]) -> list[np.ndarray]:
    """The numbers of the pixels on each path, an array (directions, points, sources) a group, as in IRN's files."""
    sources, width = source_indices(radius, size), size[1]
    shifts = [np.array([[y * width + x for y, x in each.path] for each in group]) for group in grouped(radius)]
    return [shift[..., None] + sources for shift in shifts]


def _at(values: Tensor, radius: int, y: int, x: int) -> Tensor:
    """The values (..., sources' rows, sources' columns) that lie (y, x) away from each source."""
    height, width, edge = *values.shape[-2:], margin(radius)
    return values[..., y : y + height - edge, edge + x : width - edge + x]


def affinities(edges: Tensor, radius: int) -> Tensor:
    """1 - the greatest edge on each path.

    Args:
        edges: (B, 1, h, w) in [0, 1].
        radius: of the directions.

    Returns:
        (B, directions, sources).
    """
    found = []
    for direction in directions(radius):
        points = torch.stack([_at(edges[:, 0], radius, y, x) for y, x in direction.path])
        found.append(1 - points.max(dim=0).values.flatten(1))
    return torch.stack(found, dim=1)


def pair_displacements(displacements: Tensor, radius: int) -> Tensor:
    """The source's displacement less the destination's: (B, 2, h, w) to (B, 2, directions, sources)."""
    start = _at(displacements, radius, 0, 0)
    pairs = [start - _at(displacements, radius, *direction.to) for direction in directions(radius)]
    return torch.stack(pairs, dim=2).flatten(3)


def pair_labels(labels: Tensor, radius: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of pairs both background, both of one class, and of different classes; (B, directions, sources) bool.

    Args:
        labels: (B, h, w): 0 background, 1 to `classes`; anything above is ignored.
        radius: of the directions.
        classes: C.
    """
    start = _at(labels, radius, 0, 0).flatten(1)[:, None]
    end = torch.stack([_at(labels, radius, *each.to) for each in directions(radius)], dim=1).flatten(2)
    valid = (start <= classes) & (end <= classes)
    equal = valid & (start == end)
    return equal & (start == 0), equal & (start > 0), valid & (start != end)


def targets(radius: int, like: Tensor) -> Tensor:
    """The directions themselves as (1, 2, directions, 1), y first."""
    moves = torch.tensor([each.to for each in directions(radius)], dtype=like.dtype, device=like.device)
    return moves.T[None, :, :, None]


def losses(edges: Tensor, displacements: Tensor, labels: Tensor, radius: int, classes: int) -> dict[str, Tensor]:
    """IRN's loss, `loss`, and its parts; each is a weighted mean over the whole batch.

    Args:
        edges: logits (B, 1, h, w).
        displacements: (B, 2, h, w).
        labels: (B, h, w), see `pair_labels`.
        radius: of the directions.
        classes: C.
    """
    background, foreground, different = pair_labels(labels, radius, classes)
    affinity = affinities(torch.sigmoid(edges), radius)
    near, far = -torch.log(affinity + 1e-5), -torch.log(1 + 1e-5 - affinity)
    moved = pair_displacements(displacements, radius)
    towards, still = (moved - targets(radius, moved)).abs().sum(dim=1), moved.abs().sum(dim=1)
    parts = {
        "background": _mean(near, background),
        "foreground": _mean(near, foreground),
        "different": _mean(far, different),
        "displaced": _mean(towards, foreground, 2),
        "still": _mean(still, background, 2),
    }
    positive = parts["background"] / 2 + parts["foreground"] / 2
    loss = (positive + parts["different"]) / 2 + (parts["displaced"] + parts["still"]) / 2
    return {**parts, "loss": loss}


def _mean(values: Tensor, where: Tensor, channels: int = 1) -> Tensor:
    return (values * where).sum() / (channels * where.sum().to(values.dtype) + 1e-5)


def random_walk(maps: Tensor, edges: Tensor, radius: int = 5, beta: float = 10, exponent: int = 8) -> Tensor:
    """Class maps spread along affinities: 2 ** `exponent` steps of a walk that boundaries stop.

    The released code squares the dense transition matrix `exponent` times; steps with the 2 x 34 neighbours that a
    pixel has give the same and need no memory to speak of.

    Args:
        maps: (K, h, w).
        edges: (h, w) in [0, 1].
        radius: of the directions.
        beta: affinities are raised to it.
        exponent: twice as many steps for one more.

    Returns:
        (K, h, w).
    """
    height, width = edges.shape
    matrix = _transitions(edges, radius, beta)
    values = (maps * (1 - edges)).reshape(len(maps), -1).T.contiguous()
    for _ in range(2**exponent):
        values = matrix @ values
    return values.T.reshape(len(maps), height, width)


def _transitions(edges: Tensor, radius: int, beta: float) -> Tensor:
    """The transposed transition matrix, sparse (pixels, pixels): affinities ** beta, each row divided by its sum."""
    height, width = edges.shape
    numbers = torch.arange(height * width, device=edges.device).view(height, width)
    rows, columns, entries = [numbers.flatten()], [numbers.flatten()], [torch.ones_like(edges).flatten()]
    for direction in directions(radius):
        place = _inside(height, width, direction)
        if place is None:
            continue
        points = torch.stack([edges[_shifted(place, y, x)] for y, x in direction.path])
        entry = (1 - points.max(dim=0).values).pow(beta).flatten()
        start, end = numbers[_shifted(place, 0, 0)].flatten(), numbers[_shifted(place, *direction.to)].flatten()
        rows += [start, end]
        columns += [end, start]
        entries += [entry, entry]
    row, column, entry = torch.cat(rows), torch.cat(columns), torch.cat(entries)
    sums = torch.zeros(height * width, dtype=entry.dtype, device=entry.device).index_add_(0, row, entry)
    indices = torch.stack([row, column])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its compressed layout a beta state
        return torch.sparse_coo_tensor(indices, entry / sums[row], (height * width,) * 2).to_sparse_csr()


def _inside(height: int, width: int, direction: Direction) -> tuple[int, int, int, int] | None:
    """First row, end row, first and end column of the sources whose destination lies in the image; None for none."""
    dy, dx = direction.to
    place = (0, height - dy, max(0, -dx), width - max(0, dx))
    return place if place[0] < place[1] and place[2] < place[3] else None


def _shifted(place: tuple[int, int, int, int], y: int, x: int) -> tuple[slice, slice]:
    return slice(place[0] + y, place[1] + y), slice(place[2] + x, place[3] + x)
