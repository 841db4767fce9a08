"""Extraction of boxes from localization maps, at any number of thresholds.

Three things differ between the released evaluations, and each has a name here:

how the map is cut (`CUTS`)
    `value`: the map's own values above the threshold (BAS, SPOL).
    `grey`: the map as 8-bit grey, `int(map * 255)`, above `int(threshold * greatest grey)` (wsolevaluation).
    `stretched-grey`: the same after a second min-max stretch (GRCAM, and DGL's later evaluation).
    `cubehelix-grey`: the stretched map painted with the cubehelix colours, turned to grey, cut like `grey` (ADL).
which region counts (`REGIONS`)
    `largest-component`: the 8-connected component of most pixels, the first in raster order among equals (BAS).
    `largest-contour`: the contour of largest polygon area, the first in OpenCV's list among equals (the others).
    `every-contour`: all of them, holes included (MaxBoxAccV2).
where the box ends (`ENDS`)
    `exclusive`: `x1 = x + width`, one past the last pixel.
    `clamped`: the same, but never past the last column or row of the frame.

OpenCV finds contours and components; versions 4.11 and 5.0 gave the same boxes on every recorded map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from common.measuring.arrays import Array, Boxes, Bytes, Floats, Thresholds

CUTS = ("value", "grey", "stretched-grey", "cubehelix-grey")
STRETCHING = ("stretched-grey", "cubehelix-grey")
"""The cuts that begin with a min-max stretch of their own."""
REGIONS = ("largest-component", "largest-contour", "every-contour")
ENDS = ("exclusive", "clamped")


@dataclass(frozen=True)
class Extractor:
    """A released rule for turning a map into boxes; one attribute per choice, each explained above."""

    cut: str
    region: str
    end: str

    def __post_init__(self) -> None:
        for name, choices in (("cut", CUTS), ("region", REGIONS), ("end", ENDS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}, expected one of {', '.join(choices)}")

    @property
    def stretches(self) -> bool:
        """Whether the cut stretches the map to [0, 1] itself, so that a map of any finite values will do."""
        return self.cut in STRETCHING

    def boxes(self, localization_map: Floats, thresholds: Thresholds) -> list[Boxes]:
        """The boxes at each threshold.

        Args:
            localization_map: (H, W) float in the frame's size; in [0, 1] unless the extractor `stretches`.
            thresholds: T numbers in [0, 1).

        Returns:
            T arrays (K, 4), float64 `x0 y0 x1 y1` in pixels of the frame; K is 0 where no region is left,
            at most 1 unless the region rule is `every-contour`. Thresholds that cut alike share one array.

        Raises:
            ValueError: the map is not two-dimensional, holds NaN, or leaves [0, 1] where it may not.
        """
        check_map(localization_map, bounded=not self.stretches)
        surface, levels_of = cutting(localization_map, self.cut)
        levels = levels_of(thresholds).tolist()
        region = _REGIONS[self.region]
        found: dict[float, Boxes] = {}
        for level in levels:
            if level not in found:
                found[level] = self.finish(region((surface > level).view(np.uint8)), surface.shape)
        return [found[level] for level in levels]

    def of_one_region(self) -> "Extractor":
        """The same rule with one box an image: of every contour the one that encloses the largest area."""
        return replace(self, region="largest-contour") if self.region == "every-contour" else self

    def finish(self, boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
        """End boxes (K, 4), which end one past their last pixel, as `end` says; in place, for a (height, width)."""
        if self.end == "clamped":
            boxes[:, 2:] = np.minimum(boxes[:, 2:], np.array(shape[::-1]) - 1)
        return boxes


LARGEST_COMPONENT = Extractor("value", "largest-component", "exclusive")
"""The rule of CAM (Zhou et al., CVPR 2016) and BAS: the largest component of what reaches the threshold."""


def check_map(localization_map: Floats, bounded: bool = True) -> None:
    """Refuse what no evaluation may see.

    Args:
        localization_map: any object.
        bounded: refuse values outside [0, 1] too, not only those that are not finite.

    Raises:
        ValueError: not a two-dimensional float array, empty, NaN or infinity in it, or values outside [0, 1].
    """
    if not isinstance(localization_map, np.ndarray) or localization_map.ndim != 2 or localization_map.size == 0:
        raise ValueError(
            f"a localization map is a two-dimensional array, not one of shape {np.shape(localization_map)}"
        )
    if localization_map.dtype.kind != "f":
        raise ValueError(f"a localization map is a floating-point array, not {localization_map.dtype}")
    low, high = localization_map.min(), localization_map.max()
    if not np.isfinite([low, high]).all():
        raise ValueError(f"the localization map holds NaN or infinity: least {low}, greatest {high}")
    if bounded and not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"the localization map leaves [0, 1]: least {low}, greatest {high}")


def widened(localization_map: Array) -> Floats:
    """The map as float64 where its numbers have 8 bytes or more, else as float32: half precision would round greys."""
    return np.asarray(localization_map, np.float64 if localization_map.dtype.itemsize >= 8 else np.float32)


def min_max(localization_map: Floats) -> Floats:
    """The map stretched to [0, 1]: `(map - min) / (max - min)`; a constant map becomes all zero.

    The released codes divide zero by zero there. The NaN that results is never above a threshold, so all zero is
    the same answer without it.

    Raises:
        ValueError: the map holds NaN or infinity.
    """
    low, high = localization_map.min(), localization_map.max()
    if not np.isfinite(high - low):
        raise ValueError("the map to be stretched holds NaN or infinity")
    if high == low:
        return np.zeros_like(localization_map)
    stretched: Floats = (localization_map - low) / (high - low)
    return stretched


def cutting(localization_map: Floats, cut: str) -> tuple[Array, Callable[[Thresholds], Array]]:
    """The surface that is compared, and the function from thresholds to the levels that it has to exceed."""
    localization_map = widened(localization_map)
    if cut == "value":
        # The threshold takes the map's dtype first, as numpy < 2 and torch do when a Python number meets an array.
        return localization_map, lambda thresholds: np.asarray(thresholds, localization_map.dtype)
    if cut == "grey":
        surface = (localization_map * 255).astype(np.uint8)
    elif cut == "stretched-grey":
        surface = (min_max(localization_map) * 255).astype(np.uint8)
    else:
        surface = _cubehelix_grey(localization_map)
    greatest = int(surface.max())
    return surface, lambda thresholds: (np.asarray(thresholds) * greatest).astype(np.int64)


def _cubehelix_grey(localization_map: Floats) -> Bytes:
    """ADL's detour: stretched, painted, the colours truncated to 8 bits and turned to grey.

    The colours are cubehelix, the default of the tensorpack function that ADL calls, not jet: only they give ADL's
    recorded boxes.
    """
    stretched = min_max(localization_map.astype(np.float64))
    grey: Bytes = _cubehelix_greys()[np.minimum((stretched * 256).astype(np.int16), 255)]
    return grey


@lru_cache(maxsize=1)
def _cubehelix_greys() -> Bytes:
    """The grey of each of the 256 colours of matplotlib's cubehelix, (256,)."""
    from matplotlib import colormaps  # slow to import, and one protocol needs it

    colours = (colormaps["cubehelix"](np.arange(256))[None, :, :3].astype(np.float32) * 255.0).astype(np.uint8)
    greys: Bytes = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)[0]
    return greys


def largest_component(mask: Bytes) -> Boxes:
    """Box of the 8-connected component with the most pixels; (1, 4), or (0, 4) when the mask is empty.

    Args:
        mask: (H, W) uint8, foreground where not 0.

    Returns:
        float64 `x0 y0 x1 y1`, end-exclusive. Among components of one size the first in raster order wins.
    """
    # OpenCV's default algorithm numbers components by blocks of 2 x 2 pixels; Wu's numbers them in raster order.
    count, _, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(mask, 8, cv2.CV_32S, cv2.CCL_WU)
    if count < 2:
        return np.empty((0, 4))
    x, y, width, height, _ = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    return np.array([[x, y, x + width, y + height]], dtype=np.float64)


def largest_contour(mask: Bytes) -> Boxes:
    """Box of the contour with the largest polygon area; (1, 4), or (0, 4) when the mask is empty.

    The polygon runs through pixel centres, so one pixel or a line one pixel wide has area 0. Among contours of one
    area the first in OpenCV's list wins: for separate blobs the one whose top row is lowest in the image.

    Args:
        mask: (H, W) uint8, foreground where not 0.

    Returns:
        float64 `x0 y0 x1 y1`, end-exclusive.
    """
    contours = _contours(mask)
    return _bounding_boxes([max(contours, key=cv2.contourArea)]) if contours else np.empty((0, 4))


def every_contour(mask: Bytes) -> Boxes:
    """Boxes (K, 4) of all contours in OpenCV's order, the borders of holes included; see `largest_contour`."""
    return _bounding_boxes(_contours(mask))


def _contours(mask: Bytes) -> Sequence[Array]:
    return cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]


def _bounding_boxes(contours: Sequence[Array]) -> Boxes:
    rectangles = np.array([cv2.boundingRect(contour) for contour in contours], dtype=np.float64).reshape(-1, 4)
    rectangles[:, 2:] += rectangles[:, :2]
    return rectangles


_REGIONS: dict[str, Callable[[Bytes], Boxes]] = {
    "largest-component": largest_component,
    "largest-contour": largest_contour,
    "every-contour": every_contour,
}
