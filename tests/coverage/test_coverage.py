"""Whether 95 % intervals hold the true value in 93 to 97 % of simulated data sets: 2,000 for each rule, a minute or two.

An image is hit between two thresholds of its own, one in eight never; the true accuracies are those of 200,000 images.
$WSOL_COVERAGE_SETS simulates fewer.
"""

import os

import numpy as np
import pytest

from common.measuring.hits import Hits
from common.measuring.metrics import LocalizationResult
from common.measuring.protocols import BAS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2
from common.results.comparing import mcnemar
from common.results.intervals import Resampling, intervals

SETS = int(os.environ.get("WSOL_COVERAGE_SETS", "2000"))
IMAGES, CLASSES, THRESHOLDS, FIXED = 200, 5, 20, 6


def drawn(random, images, criteria):
    """Hits (N, criteria, T), each criterion's among those of the one before, and whether the class is right (N,)."""
    middle, half = random.normal(0.35, 0.12, images), random.gamma(2, 0.08, images) + 0.02
    half[random.random(images) < 0.125] = 0
    at = np.arange(THRESHOLDS) / THRESHOLDS
    hit = np.abs(at - middle[:, None]) < half[:, None]
    stricter = np.cumprod(random.random((images, criteria)) < 0.85, axis=1).astype(bool)
    return hit[:, None] & stricter[:, :, None], random.random(images) < 0.8


def as_result(protocol, hit, right):
    hits = Hits(*hit.shape[1:])
    labels, counted = np.arange(len(hit)) % CLASSES, np.ones(THRESHOLDS, bool)
    for number, row in enumerate(hit):
        hits.add(f"{number:04}", int(labels[number]), row, counted, bool(right[number]), True)

    def mean(values):
        each = [values[labels == label].mean(axis=0) for label in range(CLASSES)]
        return 100 * (np.mean(each, axis=0) if protocol.mean_over == "classes" else values.mean(axis=0))

    top1 = mean(hit & right[:, None, None])
    return LocalizationResult(protocol, np.arange(THRESHOLDS) / THRESHOLDS, mean(hit), top1, mean(hit),
                              100 * hit.mean(axis=0), np.full(THRESHOLDS, len(hit)), len(hit), hits=hits)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "fixed"), [
    (SPOL, True), (WSOLEVAL_V1, False), (WSOLEVAL_V2, True), (WSOLEVAL_V2, False), (BAS, True), (BAS, False),
], ids=lambda value: value if isinstance(value, bool) else value.name)  # fmt: skip
def test_intervals_hold_the_true_value(protocol, fixed):
    random = np.random.default_rng(0)
    criteria = len(protocol.criteria)
    hit, right = drawn(random, 200_000, criteria)
    indices = np.full(criteria, FIXED) if fixed else hit.mean(axis=0).argmax(axis=1)
    at = hit[:, np.arange(criteria), indices]
    truth = {"gt_known": 100 * at.mean(), "top1": 100 * (at & right[:, None]).mean()}
    held = dict.fromkeys(truth, 0)
    for number in range(SETS):
        result = as_result(protocol, *drawn(random, IMAGES, criteria))
        found = intervals(result, indices if fixed else None, Resampling(400, number))
        for name, value in truth.items():
            held[name] += found[name][0] <= value <= found[name][1]
    assert all(0.93 <= count / SETS <= 0.97 for count in held.values()), {
        name: count / SETS for name, count in held.items()
    }


@pytest.mark.slow
def test_equal_methods_are_told_apart_rarely():
    """McNemar's exact test is conservative: of equal methods at most 5 % differ."""
    random = np.random.default_rng(1)
    discordant = random.binomial(IMAGES, 0.2, SETS)
    assert np.mean([mcnemar(int(one), int(both - one)) < 0.05
                    for one, both in zip(random.binomial(discordant, 0.5), discordant, strict=True)]) <= 0.05  # fmt: skip
