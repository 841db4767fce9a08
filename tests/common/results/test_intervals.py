"""Intervals: by hand, by Wilson's formula, and the same whatever the order and the number of processes."""

import math

import numpy as np
import pytest

from common.measuring.geometry import Frame
from common.measuring.hits import Hits
from common.measuring.metrics import ImageScores, LocalizationEvaluator
from common.measuring.pixel_metrics import PixelEvaluator
from common.measuring.protocols import BAS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2
from common.results.intervals import Resampling, draws, intervals, pixel_intervals, wilson

FEW = Resampling(200, 3)


def evaluated(protocol, iou, labels=None, top5=None, order=None, ids=None):
    """An evaluator that has seen images with IoUs (N, T)."""
    iou = np.asarray(iou, float)
    evaluator = LocalizationEvaluator(protocol, np.arange(iou.shape[1]) / iou.shape[1])
    frame = Frame.of_kind(protocol.frame, (100, 100))
    for number in range(len(iou)) if order is None else order:
        scores = ImageScores(np.zeros((1, 4)), [None] * iou.shape[1], iou[number], np.ones(iou.shape[1], bool))
        label = 0 if labels is None else int(labels[number])
        evaluator.accumulate_scores(scores, frame, label, None if top5 is None else top5[number], f"{number:03}")
    return evaluator


def test_wilsons_interval_by_hand():
    """Of 81 hits in 263 (Newcombe 1998, table I): 0.2553 to 0.3662."""
    assert wilson(81, 263) == pytest.approx((25.53, 36.62), abs=0.005)
    assert wilson(0, 20) == pytest.approx((0, 16.11), abs=0.005)
    z, n, p = 1.959964, 240, 0.9
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    ends = [100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
    assert wilson(216, 240) == pytest.approx(ends, abs=1e-4)
    assert wilson(0, 0) == (0, 100)


def test_a_fixed_threshold_over_images_has_wilsons():
    """7 of 10 hits at the second threshold, 5 of them of the right class."""
    iou = np.array([[0, 1]] * 7 + [[0, 0]] * 3)
    top5 = [(0, 1)] * 5 + [(1, 0)] * 5
    found = intervals(evaluated(SPOL, iou, top5=top5).compute(), [1], FEW)
    assert found == {
        "gt_known": wilson(7, 10),
        "top1": wilson(5, 10),
        "top5": wilson(7, 10),
        "over_images": wilson(7, 10),
    }


def test_nobody_classified_no_interval_of_classes():
    assert set(intervals(evaluated(SPOL, [[1.0], [0.0]]).compute(), [0], FEW)) == {"gt_known", "over_images"}


def test_over_classes_images_are_drawn_within_their_class():
    """A class that is always hit and one that never is: 50 in every resample, which has no width, hence Wilson's."""
    labels = [0] * 4 + [1] * 6
    found = intervals(evaluated(BAS, [[1.0]] * 4 + [[0.0]] * 6, labels).compute(), [0], FEW)
    assert found["gt_known"] == wilson(5, 10)
    assert found["over_images"] == wilson(4, 10)
    times = draws(np.array(labels), 10, FEW)
    assert (times[:, :4].sum(axis=1) == 4).all()
    assert (times[:, 4:].sum(axis=1) == 6).all()


def test_the_bootstrap_is_the_one_written_down():
    """Every resample of two criteria's means, by a loop."""
    random = np.random.default_rng(0)
    iou = random.random((30, 4))
    result = evaluated(WSOLEVAL_V2, iou).compute()
    times = draws(None, 30, FEW)
    hit = iou[:, None, :] >= np.array(WSOLEVAL_V2.criteria)[:, None]
    by_hand = [100 * (row[:, None, None] * hit).sum(axis=0).max(axis=1).mean() / 30 for row in times.astype(int)]
    middle, factor = np.mean(by_hand), np.sqrt(30 / 29)
    ends = middle + factor * (np.percentile(by_hand, [2.5, 97.5]) - middle)
    low, high = np.minimum(ends, 100) - 2 * (np.mean(by_hand) - result.max_box_acc)
    assert intervals(result, None, FEW)["gt_known"] == pytest.approx((low, min(high, 100)), abs=1e-4)


@pytest.mark.parametrize("protocol", [BAS, SPOL, WSOLEVAL_V1])
def test_order_and_shards_change_nothing(protocol):
    random = np.random.default_rng(1)
    iou, labels = random.random((40, 6)), random.integers(0, 3, 40)
    whole = evaluated(protocol, iou, labels)
    merged = evaluated(protocol, iou, labels, order=range(1, 40, 2))
    merged.merge(evaluated(protocol, iou, labels, order=range(0, 40, 2)))
    assert intervals(whole.compute(), None, FEW) == intervals(merged.compute(), None, FEW)
    assert intervals(whole.compute(), None, FEW) != intervals(whole.compute(), None, Resampling(200, 4))


def test_thresholds_far_below_the_best_change_nothing():
    """400 images, so those more than 30 points below are not looked at."""
    random = np.random.default_rng(2)
    near = (random.random((400, 2)) < 0.9).astype(float)
    far = np.concatenate([near, np.zeros((400, 50))], axis=1)
    assert intervals(evaluated(SPOL, near).compute(), None, FEW) == intervals(evaluated(SPOL, far).compute(), None, FEW)


def test_50000_images_take_little_memory():
    hits = Hits(3, 1000)
    hits.add("a", 0, np.ones((3, 1000), bool), np.ones(1000, bool), True, True)
    assert 50_000 * sum(len(getattr(hits, name)) for name in ("_correct", "_counted")) < 30e6
    assert hits.correct().all()
    assert hits.correct().shape == (1, 3, 1000)


def test_pixels_by_hand():
    """Two equal images: every resample gives the figure itself."""
    evaluator = PixelEvaluator()
    for _ in range(2):
        evaluator.accumulate(np.array([[0.9, 0.1]]), np.array([[1, 0]]))
    found = pixel_intervals(evaluator.compute(), FEW)
    assert found == {"pxap": (100, 100), "piou": (100, 100), "mean_iou": (100, 100)}
    evaluator.accumulate(np.array([[0.9, 0.1]]), np.array([[0, 1]]))
    low, high = pixel_intervals(evaluator.compute(), FEW)["mean_iou"]
    assert low < evaluator.compute().mean_iou <= high
