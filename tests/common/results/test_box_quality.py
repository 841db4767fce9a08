import builtins
import math

import numpy as np
import pytest

from common.results import box_quality
from common.results.box_quality import Found, average_precision, corloc, shares, sorting
from common.system.errors import UserError


def found(*boxes, scores=None):
    return Found(np.array(boxes, float).reshape(-1, 4), np.array(scores or [1.0] * len(boxes), float))


def true(*boxes):
    return np.array(boxes, float)


TRUTH = {
    ("a", 0): true((0, 0, 10, 10)), ("b", 0): true((0, 0, 10, 10), (50, 50, 60, 60)),
    ("c", 1): true((0, 0, 10, 10)), ("d", 1): true((0, 0, 10, 10)),
}  # fmt: skip


def test_corloc_by_hand():
    """a: half of the box, 50/100 = 0.5, a hit; b: the second true box; c: 49/100, a miss; d: nothing, a miss."""
    boxes = {("a", 0): found((0, 0, 10, 5)), ("b", 0): found((50, 50, 60, 60)), ("c", 1): found((0, 0, 7, 7))}
    assert corloc(boxes, TRUTH) == 50.0
    assert corloc(boxes, TRUTH, criterion=0.49) == 75.0
    assert corloc({**boxes, ("d", 1): found()}, TRUTH) == 50.0
    assert (
        corloc({("a", 0): found((20, 20, 30, 30), (0, 0, 10, 10))}, {("a", 0): TRUTH["a", 0]}) == 0.0
    )  # the first alone
    assert math.isnan(corloc(boxes, {}))


def test_corloc_counts_an_image_once_for_each_of_its_classes():
    """A picture of a cat and a dog, of which the dog's box is found: one of two. Where the cat's lies is no help."""
    truth = {("x", 0): true((0, 0, 10, 10)), ("x", 1): true((20, 20, 40, 40))}
    assert corloc({("x", 0): found((20, 20, 40, 40)), ("x", 1): found((20, 20, 40, 40))}, truth) == 50.0


def test_shares_by_hand():
    """IoU 1, 0.6, 0.8, 0.3 with scores 0.9, 0.8, 0.2, 0.1: the best half is 1 and 0.6."""
    told = shares(np.array([1.0, 0.6, 0.8, 0.3]), np.array([0.9, 0.8, 0.2, 0.1]))
    assert (told.boxes, told.best_half, told.all) == (4, (100.0, 50.0, 50.0), (75.0, 50.0, 25.0))


def test_an_iou_that_equals_a_criterion_reaches_it():
    assert shares(np.array([0.5, 0.7, 0.9]), np.ones(3)).all == pytest.approx((100.0, 200 / 3, 100 / 3))


def test_the_middle_one_of_an_odd_number_counts_half():
    """The best half of three is one and a half boxes: the first, and half of the second: 1 / 1.5."""
    assert shares(np.array([0.9, 0.1, 0.9]), np.array([3.0, 2.0, 1.0])).best_half == pytest.approx((200 / 3,) * 3)


def test_equal_scores_say_nothing():
    """Scores of a saturated classifier: the halves are alike, in whatever order the boxes come."""
    ious = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    told = shares(ious, np.ones(5))
    assert told.best_half == pytest.approx(told.all)
    # 0.9 is above; of the three at 0.5, of which one is good, one and a half belong to the half of two and a half
    assert shares(np.array([1.0, 1.0, 0, 0, 0]), np.array([0.9, 0.5, 0.5, 0.5, 0.1])).best_half[0] == pytest.approx(
        60.0
    )


def test_sorting_takes_what_has_truth():
    boxes = {("a", 0): found((0, 0, 10, 10), (0, 0, 10, 6), scores=[0.9, 0.5]), ("z", 0): found((0, 0, 1, 1))}
    assert sorting(boxes, TRUTH) == box_quality.Sorting(2, (100.0, 100.0, 100.0), (100.0, 50.0, 50.0))
    assert sorting({}, TRUTH).boxes == 0
    assert all(map(math.isnan, sorting({}, TRUTH).best_half))


def test_average_precision_by_hand():
    """Class 0 has three objects; boxes by score: right, wrong, right. Precision is 1 up to recall 1/3, 2/3 up to 2/3,
    then 0; at COCO's 101 recalls 0, 0.01 ... that is 34 times 1 and 33 times 2/3. Class 1 has two objects, one found:
    precision 1 at 51 recalls.
    """
    pytest.importorskip("pycocotools")
    boxes = {
        ("a", 0): found((0, 0, 10, 10), (30, 30, 40, 40), scores=[0.9, 0.8]),
        ("b", 0): found((50, 50, 60, 59), scores=[0.7]),
        ("c", 1): found((0, 0, 10, 10), scores=[0.4]),
        ("elsewhere", 1): found((0, 0, 10, 10), scores=[1.0]),
    }  # fmt: skip
    sizes = dict.fromkeys("abcd", (100, 80))
    expected = 100 * np.mean([(34 + 33 * 2 / 3) / 101, 51 / 101])
    assert average_precision(boxes, TRUTH, sizes) == pytest.approx(expected, abs=1e-6)
    assert average_precision({}, TRUTH, sizes) == 0.0
    assert math.isnan(average_precision(boxes, {}, {}))


def test_a_missing_pycocotools_is_one_line(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError,
        match=r"^average precision needs pycocotools. Pip install pycocotools, this project's extra 'detection'",
    ):
        average_precision({}, TRUTH, {})


def test_lines():
    boxes = {("a", 0): found((0, 0, 10, 5)), ("b", 0): found((50, 50, 60, 60))}
    assert box_quality.lines(boxes, TRUTH) == [
        "CorLoc 50.00 of 4 images with true boxes",
        "IoU of at least 0.5, 0.7, 0.9: 100.0 50.0 50.0 % of the best half by score, 100.0 50.0 50.0 % of all 2 boxes",
    ]
