"""What thresholds chosen on few images cost, by hand."""

import numpy as np
import pytest

from common.measuring.geometry import Frame
from common.measuring.metrics import ImageScores, LocalizationEvaluator
from common.measuring.protocols import SPOL
from common.results.held import costs
from common.results.intervals import Resampling


def result(hits):
    evaluator = LocalizationEvaluator(SPOL, np.arange(hits.shape[1]) / hits.shape[1])
    frame = Frame.of_kind(SPOL.frame, (100, 100))
    for number, row in enumerate(hits):
        scores = ImageScores(np.zeros((1, 4)), [None] * len(row), row.astype(float), np.ones(len(row), bool))
        evaluator.accumulate_scores(scores, frame, 0, None, f"{number:03}")
    return evaluator.compute()


def test_one_best_threshold_costs_nothing():
    hits = np.zeros((20, 3))
    hits[:, 1] = 1
    (five, ten) = costs(result(hits), (5, 10, 11), Resampling(50))
    assert (five.images, five.median, five.ninety) == (5, 0, 0)
    assert (ten.images, ten.median, ten.ninety) == (10, 0, 0)


def test_one_image_chooses_by_what_it_is():
    """Six images are hit at the first threshold alone, four at the second. One of the four, in 40 % of draws, chooses
    the second: 3 of the other 9 are hit there, 6 at the first, and 33.3 points are lost; one of the six loses none.
    """
    hits = np.array([[1, 0]] * 6 + [[0, 1]] * 4)
    (cost,) = costs(result(hits), (1,), Resampling(200))
    assert (cost.median, cost.ninety) == (pytest.approx(0), pytest.approx(100 / 3, abs=1e-3))
