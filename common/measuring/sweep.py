"""One map under several protocols, every level of it at once: the scores that `Extractor.boxes` gives, sooner.

The compiled half is `component_tree`, which needs numba (optional extra `fast`); without it, and for a few images, maps
are cut threshold by threshold. Both give the same boxes, which `tests/common/measuring/test_sweep.py` shows.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from common.measuring.arrays import Array, Boxes, Floats, Integers, Thresholds
from common.measuring.boxes import as_boxes, pairwise_iou
from common.measuring.extraction import Extractor, check_map, cutting
from common.measuring.geometry import GROUND_TRUTH_RULES, Frame
from common.measuring.metrics import ImageScores
from common.measuring.protocols import Protocol

LEAST_MAPS = 100
"""Below this many maps the start of numba, about a second, costs more than it saves."""


def is_worth_it(maps: int) -> bool:
    """Whether numba is there, and there are maps enough to pay for its start."""
    return maps >= LEAST_MAPS and importlib.util.find_spec("numba") is not None


class Sweep:
    """One localization map; what protocols share of its cuts and regions is made once.

    Args:
        localization_map: (H, W) float in the frame's size; in [0, 1] for the protocols that don't stretch it.

    Raises:
        ValueError: a map that `check_map` refuses; here for any protocol, in `scores` for one.
    """

    def __init__(self, localization_map: Floats):
        check_map(localization_map, bounded=False)
        self._map = localization_map
        self._bounded = bool(localization_map.min() >= 0 and localization_map.max() <= 1)
        self._planes: dict[tuple[str | bytes, ...], _Plane] = {}
        self._cuts: dict[str, tuple[Array, Callable[[Thresholds], list[Any]]]] = {}

    def scores(self, protocol: Protocol, thresholds: Sequence[float], frame: Frame, truth: Boxes) -> ImageScores:
        """Scores as `score_boxes` gives them of the boxes at each threshold; the boxes themselves are not kept.

        Args:
            protocol: its extractor cuts the map.
            thresholds: T numbers in [0, 1).
            frame: where the map lies in the image.
            truth: (M, 4) in pixels of the original image.
        """
        if not self._bounded:
            check_map(self._map, bounded=not protocol.extractor.stretches)
        plane, index = self._plane(protocol.extractor.cut, thresholds)
        truth = GROUND_TRUTH_RULES[protocol.ground_truth](as_boxes(truth), frame)
        if len(truth) == 0:
            return ImageScores(truth, [], np.zeros(len(index)), np.zeros(len(index), bool))
        missing = protocol.missing_box(frame)
        iou = np.zeros(plane.levels + 1)  # the last of them where nothing is above the threshold
        if missing is not None:
            iou[-1] = pairwise_iou(missing, truth, protocol.iou).max()
        if plane.levels:
            iou[:-1] = plane.best_iou(protocol, truth)
        counted = np.ones(plane.levels + 1, bool)
        counted[-1] = missing is not None
        index = np.minimum(index, plane.levels)
        return ImageScores(truth, [], iou[index], counted[index])

    def _plane(self, cut: str, thresholds: Sequence[float]) -> tuple["_Plane", Integers]:
        """The map as ranks, and each threshold's level."""
        from common.measuring import component_tree

        if cut not in self._cuts:
            self._cuts[cut] = cutting(self._map, cut)
        surface, levels_of = self._cuts[cut]
        if cut == "value":
            levels = np.array(levels_of(thresholds))
            steps, index = np.unique(levels, return_inverse=True)
            key: tuple[str | bytes, ...] = (cut, steps.tobytes())
            if key not in self._planes:
                self._planes[key] = _Plane(component_tree.value_ranks(surface, steps))
        else:
            index = _grey_levels(tuple(thresholds), int(surface.max()))
            key = (surface.tobytes(),)
            if key not in self._planes:
                self._planes[key] = _Plane(surface.astype(np.int32))
        return self._planes[key], index


@lru_cache(maxsize=4096)
def _grey_levels(thresholds: tuple[float, ...], greatest: int) -> Integers:
    return np.array([int(threshold * greatest) for threshold in thresholds])


class _Plane:
    """A map as ranks, with the boxes of its levels once somebody has asked for them."""

    def __init__(self, ranks: Integers):
        self.ranks, self.levels = ranks, int(ranks.max())
        self._found: dict[str, tuple[Array, ...]] = {}

    def best_iou(self, protocol: Protocol, truth: Boxes) -> Floats:
        """(levels,) the best IoU at each level."""
        from common.measuring import component_tree

        boxes, *stretches = self._regions(protocol.extractor)
        iou: Floats = pairwise_iou(boxes, truth, protocol.iou).max(axis=1)
        if not stretches:
            return iou
        low, high = stretches
        best: Floats = component_tree.greatest(iou, low, high, self.levels)
        return best

    def _regions(self, extractor: Extractor) -> tuple[Array, ...]:
        from common.measuring import component_tree

        if extractor.region not in self._found:
            if extractor.region == "every-contour":
                found = component_tree.regions_and_holes(self.ranks, self.levels)
            elif extractor.region == "largest-contour":
                outlined = component_tree.filled(self.ranks, self.levels)
                found = (component_tree.largest(outlined, self.levels, by_polygon=True),)
            else:
                found = (component_tree.largest(self.ranks, self.levels, by_polygon=False),)
            self._found[extractor.region] = found
        boxes, *stretches = self._found[extractor.region]
        return extractor.finish(boxes.astype(np.float64), self.ranks.shape), *stretches
