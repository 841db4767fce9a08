"""Regions and holes of a map at every level in one pass, compiled by numba (optional extra `fast`).

A map is given as ranks: at level k its mask is where the rank exceeds k. From a level to the next lower one a mask only
grows, so its regions (8-connected) are kept in a union-find structure into which pixels are put by falling rank (a
component tree; Najman and Couprie, IEEE TIP 2006). Its holes are the 4-connected regions of the background that do not
reach the border; they grow as the level rises.

Two facts replace the tracing of contours:

- A region's outer contour runs through pixel centres. The area of that polygon, holes filled, is a sum over windows of
  2 x 2 pixels: 1 where all four belong to the region, a half where three do.
- One flood from the border fills the holes of every level (`filled`): at level k a pixel is outside where some
  4-connected way to the border has no rank over k.

Planes are padded by one pixel, so that no neighbour lies outside.
"""

import numpy as np
from numba import njit

from common.measuring.arrays import Floats, Integers


@njit(cache=True)
def value_ranks(values: Floats, thresholds: Floats) -> Integers:
    """Number of the ascending thresholds that lie below each value: (H, W) int32."""
    height, width = values.shape
    count = len(thresholds)
    ranks = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            value = values[y, x]
            rank = min(count, int(value * count))  # right at once where thresholds are even, and near it elsewhere
            while rank < count and thresholds[rank] < value:
                rank += 1
            while rank > 0 and not thresholds[rank - 1] < value:
                rank -= 1
            ranks[y, x] = rank
    return ranks


@njit(cache=True)
def dense(sums: Integers) -> tuple[Integers, Integers]:
    """Ranks 1, 2, ... of a plane's distinct values, and for each the place of a pixel that has it.

    Args:
        sums: (H, W) int32, none below 0.

    Returns:
        ranks: (H, W) int32.
        places: (levels,) int64 into the flat plane.
    """
    values = sums.ravel()
    places = np.full(values.max() + 1, -1, np.int64)
    for place in range(len(values)):
        places[values[place]] = place
    number = np.empty(len(places), np.int32)
    levels = 0
    for value in range(len(places)):
        if places[value] >= 0:
            places[levels] = places[value]
            levels += 1
            number[value] = levels
    ranks = np.empty(len(values), np.int32)
    for place in range(len(values)):
        ranks[place] = number[values[place]]
    return ranks.reshape(sums.shape), places[:levels]


@njit(cache=True)
def _by_rank(ranks: Integers, levels: int) -> tuple[Integers, Integers]:
    """Pixels (y, x) of a padded plane by rank, in raster order within one; rank k's begin at start[k]."""
    height, width = ranks.shape
    start = np.zeros(levels + 2, np.int64)
    for y in range(height):
        for x in range(width):
            start[ranks[y, x] + 1] += 1
    for rank in range(levels + 1):
        start[rank + 1] += start[rank]
    end = start.copy()
    order = np.empty((height * width, 2), np.int16)
    for y in range(height):
        for x in range(width):
            i = end[ranks[y, x]]
            order[i, 0], order[i, 1] = y + 1, x + 1
            end[ranks[y, x]] = i + 1
    return order, start


@njit(cache=True)
def filled(ranks: Integers, levels: int) -> Integers:
    """Ranks with the holes of every level filled: the least, over ways to the border, of the greatest rank on the way.

    Args:
        ranks: (H, W) int32 in [0, levels].
        levels: their number.
    """
    height, width = ranks.shape
    wide = width + 2
    left = np.full((height + 2) * wide, -1, np.int32)  # ranks of pixels that the flood has not reached
    for y in range(height):
        for x in range(width):
            left[(y + 1) * wide + x + 1] = ranks[y, x]
    flooded = np.zeros((height + 2) * wide, np.int32)
    following = np.empty((height + 2) * wide, np.int64)
    head = np.full(levels + 1, -1, np.int64)  # of each rank's list of pixels whose neighbours are to be looked at
    for y in range(1, height + 1):
        for x in range(1, width + 1, 1 if y in (1, height) else max(1, width - 1)):
            p = y * wide + x
            rank = left[p]
            flooded[p], left[p], following[p], head[rank] = rank, -1, head[rank], p
    for level in range(levels + 1):
        while head[level] >= 0:
            p = head[level]
            head[level] = following[p]
            for q in (p - wide, p - 1, p + 1, p + wide):
                if left[q] >= 0:
                    rank = max(left[q], level)
                    flooded[q], left[q], following[q], head[rank] = rank, -1, head[rank], q
    return flooded.reshape(height + 2, wide)[1 : height + 1, 1 : width + 1]


X0, Y0, X1, Y1, LOW, HIGH, SIZE, FIRST = range(8)
"""Columns of a stretch, the levels from LOW to HIGH over which one region stands unchanged: its box, end-exclusive, its
number of pixels (or its polygon's area in halves of a pixel) and the place of its first pixel in raster order."""


@njit(cache=True, inline="always")
def _root(parent: Integers, p: int) -> int:
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@njit(cache=True, inline="always")
def _write(lines: Integers, count: int, regions: Integers, one: int, level: int) -> int:
    """Write down what a region was until now, which is to change at this level; the number of lines then."""
    if regions[one, HIGH] == level:
        return count
    for column in range(8):
        lines[count, column] = regions[one, column]
    lines[count, LOW] = level + 1
    regions[one, HIGH] = level
    return count + 1


@njit(cache=True, inline="always")
def _extend(regions: Integers, one: int, x0: int, y0: int, x1: int, y1: int, size: int, first: int) -> None:
    regions[one, X0], regions[one, Y0] = min(regions[one, X0], x0), min(regions[one, Y0], y0)
    regions[one, X1], regions[one, Y1] = max(regions[one, X1], x1), max(regions[one, Y1], y1)
    regions[one, SIZE], regions[one, FIRST] = regions[one, SIZE] + size, min(regions[one, FIRST], first)


@njit(cache=True)
def _stretches(ranks: Integers, ends: Integers, levels: int, near: tuple[int, ...], by_polygon: bool) -> Integers:
    """All stretches (N, 8) int32, in columns as above, of the regions that grow as the level falls.

    Args:
        ranks: (H, W) int32 in [0, levels].
        ends: (H, W) int32, the level at which a pixel's region ends; a pixel that is not over it belongs to none.
        levels: their number.
        near: steps to the neighbours in the plane padded by one pixel.
        by_polygon: what SIZE is to be.
    """
    height, width = ranks.shape
    wide, most = width + 2, height * width
    order, start = _by_rank(ranks, levels)
    label = np.full((height + 2) * wide, -1, np.int32)  # the region that a pixel was put into
    unsigned = label.view(np.uint32)  # where -1 is the greatest
    window = np.zeros((height + 2) * wide, np.int8)  # pixels in the 2 x 2 window that ends at a place
    parent, regions, lines = np.empty(most, np.int32), np.empty((most, 8), np.int32), np.empty((most, 8), np.int32)
    made = count = 0
    for level in range(levels - 1, -1, -1):
        for i in range(start[level + 1], start[level + 2]):
            y, x = int(order[i, 0]), int(order[i, 1])
            end = ends[y - 1, x - 1]
            if end > level:
                continue
            p = y * wide + x
            greatest, least = label[p + near[0]], unsigned[p + near[0]]
            for step in near[1:]:
                greatest, least = max(greatest, label[p + step]), min(least, unsigned[p + step])
            if greatest < 0:
                root = made
                parent[root] = root
                regions[root, X0], regions[root, Y0], regions[root, X1], regions[root, Y1] = width, height, 0, 0
                regions[root, LOW], regions[root, HIGH], regions[root, SIZE], regions[root, FIRST] = end, level, 0, p
                made += 1
            else:
                root = _root(parent, greatest)
                count = _write(lines, count, regions, root, level)
                if least != np.uint32(greatest):  # not all neighbours bear one label, as most do
                    for step in near:
                        if label[p + step] >= 0:
                            other = _root(parent, label[p + step])
                            if other != root:
                                count = _write(lines, count, regions, other, level)
                                if regions[other, SIZE] > regions[root, SIZE]:
                                    other, root = root, other
                                parent[other] = root
                                _extend(
                                    regions, root, regions[other, X0], regions[other, Y0], regions[other, X1],
                                    regions[other, Y1], regions[other, SIZE], regions[other, FIRST],
                                )  # fmt: skip
            label[p] = root
            size = 1
            if by_polygon:
                size = 0
                for corner in (p, p + 1, p + wide, p + wide + 1):
                    window[corner] += 1
                    size += window[corner] >= 3
            _extend(regions, root, x - 1, y - 1, x, y, size, p)
    for i in range(made):
        if parent[i] == i:
            lines[count] = regions[i]
            count += 1
    return lines[:count].copy()


@njit(cache=True)
def regions(ranks: Integers, levels: int, by_polygon: bool) -> Integers:
    """Stretches (N, 8) of the 8-connected regions of ranks (H, W) int32, at most `levels`; see `SIZE`.

    Areas of polygons are right where the ranks are `filled`.
    """
    wide = ranks.shape[1] + 2
    near = (-wide - 1, -wide, -wide + 1, -1, 1, wide - 1, wide, wide + 1)
    return _stretches(ranks, np.zeros_like(ranks), levels, near, by_polygon)


@njit(cache=True)
def holes(ranks: Integers, outlined: Integers, levels: int) -> Integers:
    """Stretches (N, 8) of the holes; a hole's box is that of its border, the region's pixels around it.

    Args:
        ranks: (H, W) int32, at most `levels`.
        outlined: the same, `filled`: a pixel lies in a hole from the level of its own rank to below that of this one.
        levels: their number.
    """
    wide = ranks.shape[1] + 2
    found = _stretches(levels - ranks, levels - outlined, levels, (-wide, -1, 1, wide), False)
    for line in found:
        line[LOW], line[HIGH] = levels - 1 - line[HIGH], levels - 1 - line[LOW]
        line[X0], line[Y0], line[X1], line[Y1] = line[X0] - 1, line[Y0] - 1, line[X1] + 1, line[Y1] + 1
    return found


@njit(cache=True)
def largest(stretches: Integers, levels: int, by_polygon: bool) -> Integers:
    """The box of the largest region at each level, (levels, 4) int32 `x0 y0 x1 y1`, end-exclusive.

    Args:
        stretches: (N, 8) of `regions`, one at least at each level.
        levels: their number.
        by_polygon: among equals the last in raster order, with which OpenCV's list of contours begins; else the first.
    """
    best = np.full(levels, -1, np.int64)
    for i in range(len(stretches)):
        size, first = stretches[i, SIZE], stretches[i, FIRST]
        for level in range(stretches[i, HIGH], stretches[i, LOW] - 1, -1):
            so_far = best[level]
            if so_far >= 0:
                if size < stretches[so_far, SIZE]:
                    break  # the largest only grows as the level falls
                if size == stretches[so_far, SIZE] and (first < stretches[so_far, FIRST]) == by_polygon:
                    continue
            best[level] = i
    return stretches[best, :4]


@njit(cache=True)
def greatest(values: Floats, low: Integers, high: Integers, levels: int) -> Floats:
    """The greatest of (N,) values that stand at each level, from their `low` to their `high`; -1 where none does."""
    found = np.full(levels, -1.0)
    for i in range(len(values)):
        for level in range(low[i], high[i] + 1):
            found[level] = max(found[level], values[i])
    return found
