"""Pseudo masks from the true class's map: the map itself, and a sharp Gaussian for each piece of its middle band.

What a map shows surely is over 0.25, and what it hardly shows at all under 0.01; in between it is unsure. The band from
0.1 to 0.5, where objects end, is cut into its contours; a Gaussian fitted to each, with a tenth of its covariance, says
where the band is thickest, and that counts as object too.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.system.files import write_atomically

SIDE = 256
"""The grid that Gaussians are fitted on; maps are enlarged to it."""
BAND = (0.1, 0.5)
LEAST_AREA = 20
SHARPENING = 10
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Gaussian:
    """One fitted Gaussian, on the 256 x 256 grid.

    Attributes:
        x, y: its centre.
        xx, yy, xy: its covariance, sharpened.
    """

    x: float
    y: float
    xx: float
    yy: float
    xy: float

    def draw(self, highest: np.ndarray) -> None:
        """Raise (256, 256) float64 values to the Gaussian's, which is 1 at its centre.

        exp(-1 / (2 (1 - k)) ((X - x)^2 / xx - 2 (X - x)(Y - y) xy / (xx yy) + (Y - y)^2 / yy)), k = xy^2 / (xx yy).
        """
        k = self.xy**2 / (self.xx * self.yy)
        columns, rows = _reached(self.x, self.xx), _reached(self.y, self.yy)
        across = np.arange(columns.start, columns.stop) - self.x
        down = (np.arange(rows.start, rows.stop) - self.y)[:, None]
        slope = 2.0 * self.xy / (self.xx * self.yy)
        distance = across**2 / self.xx - across * (slope * down) + down**2 / self.yy
        distance *= -1.0 / (2.0 * (1.0 - k))
        part = highest[rows, columns]
        np.maximum(part, np.exp(distance, out=distance), out=part)


def _reached(centre: float, variance: float) -> slice:
    """Range of an axis where a Gaussian can exceed exp(-45), which is too little to move a grey level."""
    reach = math.sqrt(90 * variance)
    return slice(max(0, math.floor(centre - reach)), min(SIDE, math.ceil(centre + reach) + 1))


def enlarged_map(raw: np.ndarray) -> np.ndarray:
    """A class's map (h, w) float32, never negative, divided by its maximum and enlarged to (256, 256)."""
    highest = raw.max() + np.float32(1e-6)
    return cv2.resize(raw / highest, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def fit_gaussians(enlarged: np.ndarray, holes: bool = True) -> list[Gaussian]:
    """A Gaussian for each contour of the map's middle band.

    Args:
        enlarged: (256, 256) float32, as `enlarged_map` gives it.
        holes: borders of holes count as contours of their own, as released.
    """
    low, high = (np.float32(edge) for edge in BAND)
    band = np.where((enlarged >= low) & (enlarged <= high), enlarged, np.float32(0))
    mode = cv2.RETR_TREE if holes else cv2.RETR_EXTERNAL
    contours = cv2.findContours((band > 0).view(np.uint8), mode, cv2.CHAIN_APPROX_SIMPLE)[-2]
    return [_fit(contour, band) for contour in contours if cv2.contourArea(contour) >= LEAST_AREA]


def _fit(contour: np.ndarray, band: np.ndarray) -> Gaussian:
    """Means and sharpened covariance of the band on and inside a contour, weighted with the band's values."""
    x, y, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.drawContours(inside, [contour], 0, (1,), thickness=-1, offset=(-x, -y))
    weights = band[y : y + height, x : x + width].astype(np.float64) * inside
    columns, rows = np.arange(x, x + width, dtype=np.float64), np.arange(y, y + height, dtype=np.float64)
    weights /= weights.sum()
    along_x, along_y = weights.sum(axis=0), weights.sum(axis=1)
    centre_x, centre_y = along_x @ columns, along_y @ rows
    columns -= centre_x
    rows -= centre_y
    covariance = np.array([along_x @ columns**2, along_y @ rows**2, rows @ weights @ columns]) / SHARPENING
    return Gaussian(float(centre_x), float(centre_y), *covariance.tolist())


def pseudo_mask(raw: np.ndarray, size: tuple[int, int], holes: bool = True, truncate: bool = True) -> np.ndarray:
    """The pseudo mask of one image.

    Args:
        raw: the true class's map (h, w) float32, never negative.
        size: width and height of the original image.
        holes: see `fit_gaussians`.
        truncate: grey levels are cut to whole numbers, as released; otherwise rounded.

    Returns:
        (height, width, 2) uint8: the map, and the greatest Gaussian at each pixel; where no piece of the band is large
        enough the latter is all zero (the released code crashes there).
    """
    enlarged = enlarged_map(raw)
    highest = np.zeros((SIDE, SIDE))
    for gaussian in fit_gaussians(enlarged, holes):
        gaussian.draw(highest)
    channels = [(np.float32(255) * enlarged).astype(np.float64), 255 * highest]
    resized = [cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in channels]
    return cv2.merge([(channel if truncate else np.rint(channel)).astype(np.uint8) for channel in resized])


def encoded(mask: np.ndarray, file_format: str) -> bytes:
    """A pseudo mask (H, W, 2) uint8 as an image file: blue is the map, green the Gaussians, red 0.

    Args:
        mask: as `pseudo_mask` gives it.
        file_format: `png`, or `jpeg`, which loses up to 80 grey levels near edges.
    """
    picture = cv2.merge([*cv2.split(mask), np.zeros(mask.shape[:2], np.uint8)])
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if file_format == "jpeg" else []
    done, content = cv2.imencode(f".{file_format}", picture, options)
    if not done:
        raise RuntimeError("OpenCV could not encode a pseudo mask")
    return content.tobytes()


def write(path: Path, raw: np.ndarray, size: tuple[int, int], mask_format: str, holes: bool, truncate: bool) -> None:
    """One map (h, w) to its pseudo mask's file, whole or not at all; see `pseudo_mask`."""
    content = encoded(pseudo_mask(raw, size, holes, truncate), mask_format)
    write_atomically(path, lambda file: file.write(content))
