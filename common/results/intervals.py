"""95 % intervals of every accuracy.

An accuracy over images at a threshold that was fixed beforehand has Wilson's interval. A mean over classes, a mean over
several IoU criteria, and everything at a threshold that was chosen on the very images (the oracle, MaxBoxAcc) have a
percentile bootstrap's: images are drawn anew, within their class where the protocol means over classes, and where the
threshold was chosen on them it is chosen anew each time, and the optimism that this shows is taken off. Equal seeds
give equal intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.measuring.arrays import Bytes, Flags, Floats, Indices, Integers
from common.measuring.hits import Hits, chunks
from common.measuring.metrics import LocalizationResult
from common.measuring.pixel_metrics import PixelResult, area_under_precision_recall, iou_by_threshold
from common.measuring.ratios import ratio

Interval = tuple[float, float]
"""Lower and upper end, in percent."""
LEVEL = 0.95
MEASURES = ("gt_known", "top1", "top5", "over_images")
SAFE = 6.0
"""A threshold this many greatest standard errors below the best is the best in no resample; it is not looked at."""
DRAWN = 2**13
"""Images drawn at a time."""


@dataclass(frozen=True)
class Resampling:
    """Settings of a bootstrap.

    Attributes:
        resamples: how often.
        seed: of the draws.
    """

    resamples: int = 1000
    seed: int = 0


def wilson(hits: int, images: int) -> Interval:
    """Wilson's 95 % interval of `hits` in `images`, in percent; the whole scale without an image."""
    if images == 0:
        return 0.0, 100.0
    from scipy.stats import binomtest  # slow to import, and --help needs none of it

    found = binomtest(int(hits), int(images)).proportion_ci(LEVEL, method="wilson")
    return 100.0 * float(found.low), 100.0 * float(found.high)


def percentiles(values: Floats) -> Interval:
    """The interval that holds the middle 95 % of resampled values."""
    low, high = np.nanpercentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def draws(labels: Integers | None, images: int, how: Resampling) -> Bytes:
    """Number of times that each image is in each resample, (resamples, images) uint8.

    Args:
        labels: (images,) classes to draw within; None draws from all images together.
        images: how many there are.
        how: how often, and with which seed.
    """
    random = np.random.default_rng(how.seed)
    order: Integers | slice = slice(None)
    if labels is None:
        start, size = np.zeros(images, np.int64), np.full(images, images)
    else:
        order = np.argsort(labels, kind="stable")
        _, first, inverse, count = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
        start, size = first[inverse], count[inverse]
    times = np.empty((how.resamples, images), np.uint8)
    together = max(1, DRAWN // max(images, 1))  # one at a time costs more than its draws where images are few
    for first_row in range(0, how.resamples, together):
        rows = times[first_row : first_row + together]
        drawn = (start + random.random(rows.shape) * size).astype(np.int64)
        drawn += images * np.arange(len(rows))[:, None]
        rows[:, order] = np.minimum(np.bincount(drawn.ravel(), minlength=rows.size).reshape(rows.shape), 255)
    return times


def intervals(result: LocalizationResult, indices: Indices | None, how: Resampling) -> dict[str, Interval]:
    """The 95 % interval of each of `MEASURES`, by the rules above; of Top-1 and Top-5 none where nobody classified.

    Args:
        result: with its hits.
        indices: the threshold of each criterion, fixed beforehand; None chooses the best of these very images.
        how: how the bootstrap draws.
    """
    hits = result.hits
    names = [
        name
        for name in MEASURES
        if not np.isnan(result.gt_known if name == "over_images" else getattr(result, name)).all()
    ]
    if len(hits) == 0:
        return {}
    found: dict[str, Interval] = {}
    if indices is not None and len(indices) == 1:
        exact = ["over_images"] if result.protocol.mean_over == "classes" else names
        correct, counted = (each[:, 0] for each in hits.at(indices))
        right: dict[str, bool | Flags] = {"gt_known": True, "over_images": True, "top1": hits.first, "top5": hits.five}
        found = {name: wilson((correct & right[name]).sum(), counted.sum()) for name in exact}
    rest = [name for name in names if name not in found]
    if rest and how.resamples:
        found.update(_bootstrapped(result, indices, rest, how))
    return found


def _bootstrapped(
    result: LocalizationResult, indices: Indices | None, names: Sequence[str], how: Resampling
) -> dict[str, Interval]:
    by_class = result.protocol.mean_over == "classes"
    order = result.hits.order()
    labels = result.hits.labels[order] if by_class else None
    times = draws(labels, len(order), how)
    values = resampled(result, indices, times, order, names)
    images = int(result.counted.max())
    groups = 1 if labels is None else len(np.unique(labels))
    found = {name: _widened(percentiles(each), each, len(order), groups) for name, each in values.items()}
    if indices is None:
        best = result.at(result.best())
        found = {name: less_optimism(found[name], values[name], best[name]) for name in names}
    for name, (low, high) in found.items():
        if low == high:  # no resample differs from another, as where every image is hit
            found[name] = wilson(round(low * images / 100), images)
    return found


def _widened(found: Interval, values: Floats, images: int, groups: int) -> Interval:
    """The interval as wide as it would be had each group's variance been divided by its images less one.

    A bootstrap within classes of few images is too narrow without it.
    """
    if images <= groups:
        return found
    middle, factor = float(np.nanmean(values)), float(np.sqrt(images / (images - groups)))
    low, high = (min(max(middle + factor * (end - middle), 0.0), 100.0) for end in found)
    return low, high


def less_optimism(found: Interval, values: Floats, estimate: float, scale: Interval = (0.0, 100.0)) -> Interval:
    """The interval moved down by twice what choosing the threshold adds: once in the estimate, again in a resample.

    What it adds is the mean of the resamples less the estimate. Without this the interval of an oracle lies too high,
    and holds the true best accuracy in some 90 % of data sets.
    """
    optimism = float(np.nanmean(values)) - estimate
    low, high = (min(max(end - 2 * optimism, scale[0]), scale[1]) for end in found)
    return low, high


def resampled(
    result: LocalizationResult,
    indices: Indices | None,
    times: Integers,
    order: Integers,
    names: Sequence[str] = ("gt_known",),
) -> dict[str, Floats]:
    """The accuracies of each resample in percent, (R,) each, means over the criteria.

    Args:
        result: with its hits.
        indices: thresholds fixed beforehand, one a criterion; None chooses the best anew in each resample.
        times: (R, N) how often each image is in each resample, in the order of `order`.
        order: (N,) positions of the images among the hits.
        names: of `MEASURES`.
    """
    columns = _columns(result) if indices is None else np.asarray(indices)[:, None]  # (criteria, columns)
    over = _over_classes if result.protocol.mean_over == "classes" else _over_images
    ranked = over(result.hits, times, order, columns, "gt_known")
    best = np.argmax(np.where(np.isnan(ranked), -1.0, ranked), axis=2)[..., None]
    values = {}
    for name in names:
        if name == "gt_known":
            each = ranked
        elif name == "over_images":
            each = ranked if over is _over_images else _over_images(result.hits, times, order, columns, "gt_known")
        else:
            each = over(result.hits, times, order, columns, name)
        values[name] = np.take_along_axis(each, best, axis=2)[..., 0].mean(axis=1)
    return values


def best_of_images(result: LocalizationResult, order: Integers) -> Indices:
    """Index of the threshold of highest GT-known of some images for each criterion; arguments as `resampled`."""
    (known,) = accuracies(result, np.ones((1, len(order)), np.uint8), order)
    return [int(place) for place in np.argmax(np.where(np.isnan(known), -1.0, known), axis=1)]


def of_images(
    result: LocalizationResult, indices: Indices, order: Integers, names: Sequence[str] = ("gt_known",)
) -> dict[str, float]:
    """The accuracies of some images in percent, means over the criteria; arguments as `resampled`."""
    found = resampled(result, indices, np.ones((1, len(order)), np.uint8), order, names)
    return {name: float(values[0]) for name, values in found.items()}


def accuracies(result: LocalizationResult, times: Integers, order: Integers) -> Floats:
    """GT-known at every threshold of weighted images, (R, criteria, T) in percent; arguments as `resampled`."""
    over = _over_classes if result.protocol.mean_over == "classes" else _over_images
    criteria, thresholds = result.gt_known.shape
    return over(result.hits, times, order, np.tile(np.arange(thresholds), (criteria, 1)), "gt_known")


def _columns(result: LocalizationResult) -> Integers:
    """(criteria, columns) indices of the thresholds that can be the best of a resample; all of them for class means."""
    criteria, thresholds = result.gt_known.shape
    if result.protocol.mean_over == "classes":
        return np.tile(np.arange(thresholds), (criteria, 1))
    known = np.where(np.isnan(result.gt_known), -1.0, result.gt_known)
    near = known >= known.max(axis=1, keepdims=True) - 100 * SAFE / np.sqrt(len(result.hits))
    width = near.sum(axis=1).max()
    return np.sort(np.argsort(~near, axis=1, kind="stable")[:, :width], axis=1)


def _weights(times: Integers, hits: Hits, images: Integers, name: str) -> Floats:
    weights = times.astype(np.float32)
    return weights if name == "gt_known" else weights * getattr(hits, {"top1": "first", "top5": "five"}[name])[images]


def _sums(hits: Hits, times: Integers, images: Integers, columns: Integers, name: str) -> tuple[Floats, Floats]:
    """Hits and denominators (R, criteria, columns) of some images; sums of whole numbers, exact in float32."""
    correct, counted = hits.correct(images), hits.counted(images)
    rows = np.arange(len(columns))[:, None]
    weights, plain = _weights(times, hits, images, name), times.astype(np.float32)
    shape = (len(times), *columns.shape)
    found = weights @ correct[:, rows, columns].reshape(len(images), -1).astype(np.float32)
    if counted.all():
        total = np.broadcast_to(plain.sum(axis=1)[:, None, None], shape)
    else:
        total = (plain @ counted[:, columns].reshape(len(images), -1).astype(np.float32)).reshape(shape)
    return found.reshape(shape), total


def _over_images(hits: Hits, times: Integers, order: Integers, columns: Integers, name: str) -> Floats:
    shape = (len(times), *columns.shape)
    found, total = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for chunk in chunks(len(order)):
        more, counted = _sums(hits, times[:, chunk], order[chunk], columns, name)
        found += more
        total += counted
    return ratio(100.0 * found, total)


def _over_classes(hits: Hits, times: Integers, order: Integers, columns: Integers, name: str) -> Floats:
    labels = hits.labels[order]
    shape = (len(times), *columns.shape)
    total, classes = np.zeros(shape), np.zeros(shape)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found, counted = _sums(hits, times[:, members], order[members], columns, name)
        share = ratio(100.0 * found, counted)
        present = ~np.isnan(share)
        total += np.where(present, share, 0.0)
        classes += present
    return ratio(total, classes)


def pixel_intervals(result: PixelResult, how: Resampling) -> dict[str, Interval]:
    """The 95 % intervals of `pxap`, `piou` and `mean_iou` over images; the last two choose their threshold anew.

    The curves are read at every tenth threshold, and the interval is moved by what that changes of the figure itself.
    """
    if len(result.by_image) == 0 or not how.resamples:
        return {}
    images = result.by_image.astype(np.float64)
    times = draws(None, len(images), how).astype(np.float64)
    each = iou_by_threshold(images[:, 0], images[:, 1])

    def measured(weights: Floats) -> dict[str, Floats]:
        inside, outside = weights @ images[:, 0], weights @ images[:, 1]
        return {
            "pxap": 100 * area_under_precision_recall(inside, outside),
            "piou": 100 * iou_by_threshold(inside, outside).max(axis=-1),
            "mean_iou": 100 * (weights @ each).max(axis=-1) / weights.sum(axis=-1),
        }

    coarse, drawn = measured(np.ones(len(images))), measured(times)
    found = {}
    for name, values in drawn.items():
        ends = percentiles(values)
        if name != "pxap":
            ends = less_optimism(ends, values, float(coarse[name]))
        low, high = (min(max(end + getattr(result, name) - float(coarse[name]), 0.0), 100.0) for end in ends)
        found[name] = (low, high)
    return found
