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
def _by_rank(ranks: Integers, levels: int) -> tuple[Integers, Integers]:
    """Places of pixels in a padded plane by rank, in raster order within one; rank k's begin at start[k]."""
    height, width = ranks.shape
    start = np.zeros(levels + 2, np.int64)
    for y in range(height):
        for x in range(width):
            start[ranks[y, x] + 1] += 1
    for rank in range(levels + 1):
        start[rank + 1] += start[rank]
    end = start.copy()
    order = np.empty(height * width, np.int64)
    for y in range(height):
        for x in range(width):
            rank = ranks[y, x]
            order[end[rank]] = (y + 1) * (width + 2) + x + 1
            end[rank] += 1
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


@njit(cache=True, inline="always")
def _root(parent: Integers, p: int) -> int:
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@njit(cache=True, inline="always")
def _put(boxes: Integers, row: int, x0: int, y0: int, x1: int, y1: int) -> None:
    boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3] = x0, y0, x1, y1


@njit(cache=True)
def largest(ranks: Integers, levels: int, by_polygon: bool) -> Integers:
    """The box of the largest region at each level, (levels, 4) int32 `x0 y0 x1 y1`, end-exclusive.

    Args:
        ranks: (H, W) int32, at most `levels` and somewhere just that; `filled` already where polygons are compared.
        levels: how many.
        by_polygon: compare areas of polygons, the last in raster order among equals, with which OpenCV's list of
            contours begins; else numbers of pixels, the first in raster order among equals.
    """
    height, width = ranks.shape
    wide, plane = width + 2, (height + 2) * (width + 2)
    order, start = _by_rank(ranks, levels)
    parent = np.full(plane, -1, np.int64)
    pixels, size, first = np.zeros(plane, np.int32), np.zeros(plane, np.int32), np.empty(plane, np.int64)
    x0, y0, x1, y1 = np.empty((4, plane), np.int32)
    window = np.zeros(plane, np.int8)  # pixels in the 2 x 2 window that ends at a place
    boxes = np.zeros((levels, 4), np.int32)
    best, top, equals, place = -1, -1, False, -1
    for level in range(levels - 1, -1, -1):
        for i in range(start[level + 1], start[level + 2]):
            p = order[i]
            y = p // wide
            x = p - y * wide
            root = -1
            for q in (p - wide - 1, p - wide, p - wide + 1, p - 1, p + 1, p + wide - 1, p + wide, p + wide + 1):
                if parent[q] < 0 or parent[q] == root:
                    continue
                other = _root(parent, q)
                if root < 0:
                    root = other
                elif other != root:
                    if pixels[other] > pixels[root]:
                        other, root = root, other
                    parent[other] = root
                    pixels[root] += pixels[other]
                    size[root] += size[other]
                    first[root] = min(first[root], first[other])
                    x0[root], y0[root] = min(x0[root], x0[other]), min(y0[root], y0[other])
                    x1[root], y1[root] = max(x1[root], x1[other]), max(y1[root], y1[other])
            if root < 0:
                root = p
                x0[p], x1[p], y0[p], y1[p], first[p] = x, x, y, y, p
            else:
                x0[root], y0[root] = min(x0[root], x), min(y0[root], y)
                x1[root], y1[root] = max(x1[root], x), max(y1[root], y)
                first[root] = min(first[root], p)
            parent[p] = root
            pixels[root] += 1
            if by_polygon:
                for corner in (p, p + 1, p + wide, p + wide + 1):
                    window[corner] += 1
                    if window[corner] >= 3:
                        size[root] += 1  # halves of a pixel's area
            else:
                size[root] += 1
        # Only regions that have grown, and the largest so far, can be the largest now; but where that one merely moved
        # up in raster order, one of its equals may come before it.
        begin, end = start[level + 1], start[level + 2]
        if best >= 0:
            best = _root(parent, best)
            if size[best] > top:
                top, equals = size[best], False
            elif by_polygon and equals and first[best] != place:
                end = order.size
        for i in range(begin, end):
            root = _root(parent, order[i])
            if root == best:
                continue
            if size[root] > top:
                top, best, equals = size[root], root, False
            elif size[root] == top:
                equals = True
                if (first[root] > first[best]) == by_polygon:
                    best = root
        place = first[best]
        _put(boxes, level, x0[best] - 1, y0[best] - 1, x1[best], y1[best])
    return boxes


@njit(cache=True)
def regions_and_holes(ranks: Integers, levels: int) -> tuple[Integers, Integers, Integers]:
    """Boxes of all regions and holes, a line for each stretch of levels over which one stands unchanged.

    A hole's box is that of its border, which runs through the region's pixels around it.

    Args:
        ranks: (H, W) int32, at most `levels`.
        levels: how many.

    Returns:
        boxes: (N, 4) int32 `x0 y0 x1 y1`, end-exclusive.
        low, high: (N,) int32, the first and the last level.
    """
    height, width = ranks.shape
    wide, plane = width + 2, (height + 2) * (width + 2)
    order, start = _by_rank(ranks, levels)
    most = 2 * height * width + 2
    boxes, low, high = np.empty((most, 4), np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    count = 0
    parent, pixels, since = np.empty(plane, np.int64), np.empty(plane, np.int32), np.empty(plane, np.int32)
    x0, y0, x1, y1 = np.empty((4, plane), np.int32)
    for holes in (False, True):
        parent[:] = -1
        around = np.array([-wide, -1, 1, wide, -wide - 1, -wide + 1, wide - 1, wide + 1])[: 4 if holes else 8]
        rim = 1 if holes else 0
        for step in range(levels):
            level = step if holes else levels - 1 - step
            rank = level if holes else level + 1
            for i in range(start[rank], start[rank + 1]):
                p = order[i]
                y = p // wide
                x = p - y * wide
                root = -1
                for offset in around:
                    q = p + offset
                    if parent[q] < 0 or parent[q] == root:
                        continue
                    other = _root(parent, q)
                    if other == root:
                        continue
                    if since[other] != level:  # what it was until now is written down
                        outer = x0[other] == 1 or y0[other] == 1 or x1[other] == width or y1[other] == height
                        if not (holes and outer):
                            _put(
                                boxes, count, x0[other] - 1 - rim, y0[other] - 1 - rim, x1[other] + rim, y1[other] + rim
                            )
                            low[count], high[count] = (since[other], level - 1) if holes else (level + 1, since[other])
                            count += 1
                        since[other] = level
                    if root < 0:
                        root = other
                        continue
                    if pixels[other] > pixels[root]:
                        other, root = root, other
                    parent[other] = root
                    pixels[root] += pixels[other]
                    x0[root], y0[root] = min(x0[root], x0[other]), min(y0[root], y0[other])
                    x1[root], y1[root] = max(x1[root], x1[other]), max(y1[root], y1[other])
                if root < 0:
                    root = p
                    x0[p], x1[p], y0[p], y1[p], pixels[p], since[p] = x, x, y, y, 0, level
                else:
                    x0[root], y0[root] = min(x0[root], x), min(y0[root], y)
                    x1[root], y1[root] = max(x1[root], x), max(y1[root], y)
                parent[p] = root
                pixels[root] += 1
        for p in range(plane):
            if parent[p] == p:
                outer = x0[p] == 1 or y0[p] == 1 or x1[p] == width or y1[p] == height
                if not (holes and outer):
                    _put(boxes, count, x0[p] - 1 - rim, y0[p] - 1 - rim, x1[p] + rim, y1[p] + rim)
                    low[count], high[count] = (since[p], levels - 1) if holes else (0, since[p])
                    count += 1
    return boxes[:count].copy(), low[:count].copy(), high[:count].copy()


@njit(cache=True)
def greatest(values: Floats, low: Integers, high: Integers, levels: int) -> Floats:
    """The greatest of (N,) values that stand at each level, from their `low` to their `high`; -1 where none does."""
    found = np.full(levels, -1.0)
    for i in range(len(values)):
        for level in range(low[i], high[i] + 1):
            found[level] = max(found[level], values[i])
    return found
