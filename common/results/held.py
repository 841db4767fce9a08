"""The cost of a threshold chosen on few held-out images: resampled from predictions that exist."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.measuring.metrics import LocalizationResult
from common.results.intervals import Resampling, accuracies

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of held-out images that are tried, as far as twice as many are there."""


@dataclass(frozen=True)
class Cost:
    """GT-known that is lost to the oracle, in points.

    Attributes:
        protocol: by name.
        images: how many held-out images the threshold was chosen on.
        median: of the draws.
        ninety: what nine of ten draws do not exceed.
    """

    protocol: str
    images: int
    median: float
    ninety: float


def costs(result: LocalizationResult, sizes: Sequence[int], how: Resampling) -> list[Cost]:
    """Draw held-out images from a run's own, choose thresholds on them, and read both on all the others.

    Args:
        result: of one run under one protocol.
        sizes: numbers of held-out images; those of which fewer than as many would be left are passed over.
        how: how often, and with which seed.
    """
    order, found = result.hits.order(), []
    random = np.random.default_rng(how.seed)
    for size in sizes:
        if 2 * size > len(order):
            continue
        held = np.zeros((how.resamples, len(order)), np.uint8)
        for row in held:
            row[random.choice(len(order), size, replace=False)] = 1
        on_held, on_rest = accuracies(result, held, order), accuracies(result, 1 - held, order)
        chosen = np.argmax(np.where(np.isnan(on_held), -1.0, on_held), axis=2)[..., None]
        lost = np.nanmax(on_rest, axis=2) - np.take_along_axis(on_rest, chosen, axis=2)[..., 0]
        each = np.nan_to_num(lost).mean(axis=1)
        found.append(Cost(result.protocol.name, size, float(np.median(each)), float(np.percentile(each, 90))))
    return found
