"""One map under several protocols, every level of it at once: the scores that `Extractor.boxes` gives, sooner.

The compiled half is `component_tree`, which needs numba (optional extra `fast`); without it, and for a few images, maps
are cut threshold by threshold. Both give the same boxes, which `tests/common/measuring/test_sweep.py` shows.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from common.measuring.arrays import Array, Boxes, Floats, Integers, Thresholds
from common.measuring.boxes import as_boxes, pairwise_iou
from common.measuring.extraction import Extractor, check_map, cutting, widened
from common.measuring.geometry import GROUND_TRUTH_RULES, Frame
from common.measuring.metrics import ImageScores
from common.measuring.protocols import Protocol

LEAST_MAPS = 100
"""Below this many maps the start of numba, about a second, costs more than it saves."""


def is_worth_it(maps: int) -> bool:
    """Whether numba is there, and there are maps enough to pay for its start."""
    return maps >= LEAST_MAPS and importlib.util.find_spec("numba") is not None


class Sweep:
    """One localization map under some protocols, whose cuts are merged: one component tree has the levels of all.

    A cut never puts a greater value of the map under a smaller one, so that the sum of a pixel's places in all cuts
    orders pixels as each of them does.

    Args:
        localization_map: (H, W) float in the frame's size; in [0, 1] for the protocols that don't stretch it.
        protocols: those that `scores` may be asked for, each at its own thresholds.

    Raises:
        ValueError: a map that `check_map` refuses; here for any protocol, in `scores` for one.
    """

    def __init__(self, localization_map: Floats, protocols: Sequence[Protocol]):
        check_map(localization_map, bounded=False)
        self._map = widened(localization_map)
        self._bounded = bool(localization_map.min() >= 0 and localization_map.max() <= 1)
        self._levels_of: dict[str, Callable[[Thresholds], Array]] = {}
        self._merge([each for each in protocols if self._bounded or each.extractor.stretches])
        self._found: dict[str, Array] = {}

    def _merge(self, protocols: Sequence[Protocol]) -> None:
        """Find ranks (H, W) int32 from 1 on, which order pixels as all cuts do, and each cut's value at each."""
        from common.measuring import component_tree

        sums, surfaces = np.zeros(self._map.shape, np.int32), {}
        for cut in {each.extractor.cut for each in protocols}:
            surfaces[cut], self._levels_of[cut] = cutting(self._map, cut)
            if cut == "value":
                swept = {threshold for each in protocols if each.extractor.cut == cut for threshold in each.sweep}
                sums += component_tree.value_ranks(self._map, np.unique(self._levels_of[cut](list(swept))))
            else:
                sums += surfaces[cut]
        self._ranks, places = component_tree.dense(sums)
        self._levels = len(places)
        self._values = {cut: surface.ravel()[places] for cut, surface in surfaces.items()}

    def scores(self, protocol: Protocol, frame: Frame, truth: Boxes) -> ImageScores:
        """Scores as `score_boxes` gives them of the boxes at each threshold; the boxes themselves are not kept.

        Args:
            protocol: its extractor cuts the map at the thresholds of its `sweep`.
            frame: where the map lies in the image.
            truth: (M, 4) in pixels of the original image.
        """
        if not self._bounded:
            check_map(self._map, bounded=not protocol.extractor.stretches)
        truth = GROUND_TRUTH_RULES[protocol.ground_truth](as_boxes(truth), frame)
        if len(truth) == 0:
            return ImageScores(truth, [], np.zeros(len(protocol.sweep)), np.zeros(len(protocol.sweep), bool))
        cut = protocol.extractor.cut
        # A mask holds what has a greater value than its level: all but so many ranks.
        below = np.searchsorted(self._values[cut], self._levels_of[cut](protocol.sweep), side="right")
        cut_at = np.zeros(self._levels + 1, bool)
        cut_at[below] = True
        levels, index = np.flatnonzero(cut_at), cut_at.cumsum()[below] - 1
        missing = protocol.missing_box(frame)
        iou, counted = np.zeros(len(levels)), np.ones(len(levels), bool)
        if levels[-1] == self._levels:  # nothing is above the threshold
            counted[-1] = missing is not None
            iou[-1] = 0 if missing is None else pairwise_iou(missing, truth, protocol.iou).max()
            levels = levels[:-1]
        if len(levels):
            iou[: len(levels)] = self._best_iou(protocol, levels, truth)
        return ImageScores(truth, [], iou[index], counted[index])

    def _best_iou(self, protocol: Protocol, levels: Integers, truth: Boxes) -> Floats:
        """(L,) the best IoU at each of (L,) ascending levels."""
        from common.measuring import component_tree

        stretches = self._stretches(protocol.extractor)
        if protocol.extractor.region != "every-contour":
            return self._iou(protocol, stretches[levels], truth)
        low = np.searchsorted(levels, stretches[:, component_tree.LOW])
        high = np.searchsorted(levels, stretches[:, component_tree.HIGH], side="right") - 1
        standing = low <= high
        best = self._iou(protocol, stretches[standing, :4], truth)
        return component_tree.greatest(best, low[standing], high[standing], len(levels))

    def _stretches(self, extractor: Extractor) -> Integers:
        """Boxes (levels, 4) of the largest region at each level, or the stretches of all regions and holes."""
        from common.measuring import component_tree

        ranks, levels, region = self._ranks, self._levels, extractor.region
        if region not in self._found:
            if region == "largest-component":
                found = component_tree.largest(self._regions, levels, by_polygon=False)
            elif region == "largest-contour":
                outlined = component_tree.regions(self._outlined, levels, by_polygon=True)
                found = component_tree.largest(outlined, levels, by_polygon=True)
            else:
                found = np.concatenate([self._regions, component_tree.holes(ranks, self._outlined, levels)])
            self._found[region] = found
        return self._found[region]

    @cached_property
    def _outlined(self) -> Integers:
        """The ranks, holes filled."""
        from common.measuring import component_tree

        return component_tree.filled(self._ranks, self._levels)

    @cached_property
    def _regions(self) -> Integers:
        """Stretches of the regions, holes left open."""
        from common.measuring import component_tree

        return component_tree.regions(self._ranks, self._levels, by_polygon=False)

    def _iou(self, protocol: Protocol, boxes: Integers, truth: Boxes) -> Floats:
        ended = protocol.extractor.finish(boxes.astype(np.float64), self._map.shape)
        best: Floats = pairwise_iou(ended, truth, protocol.iou).max(axis=1)
        return best
