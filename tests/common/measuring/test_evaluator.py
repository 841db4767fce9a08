"""An evaluator's books: what it counts, leaves out, merges and refuses."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.measuring.geometry import Frame
from common.measuring.metrics import ImageScores, LocalizationEvaluator, score_boxes
from common.measuring.protocols import BAS, GRCAM, PROTOCOLS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2
from tests.common.measuring.squares import CROP, SQUARE, box_map, frame_for


def test_spols_missing_images_can_be_counted():
    empty, hit = np.zeros((224, 224), np.float32), box_map(50, 50, 150, 150)
    truth = CROP.to_original([50, 50, 150, 150])
    for count_missing, counted, accuracy in ((False, 1, 100.0), (True, 2, 50.0)):
        evaluator = LocalizationEvaluator(SPOL, [0.2], count_missing)
        for picture in (empty, hit):
            evaluator.accumulate(picture, CROP, truth, label=0)
        result = evaluator.compute()
        assert result.counted.tolist() == [counted]
        assert result.gt_known[0, 0] == accuracy


def test_spol_leaves_one_image_out_by_name():
    evaluator = LocalizationEvaluator(SPOL, [0.2])
    for name in ("val/ILSVRC2012_val_00033202.JPEG", "val/ILSVRC2012_val_00033203.JPEG"):
        evaluator.accumulate(box_map(0, 0, 9, 9), CROP, CROP.to_original([0, 0, 9, 9]), label=0, image_id=name)
    result = evaluator.compute()
    assert (result.seen, result.counted.tolist()) == (2, [1])
    assert result.left_out == {"left out by name in the released code": 1}


@pytest.mark.parametrize("protocol", [BAS, WSOLEVAL_V2])
def test_nothing_accumulated(protocol):
    result = LocalizationEvaluator(protocol, [0.1, 0.5]).compute()
    shape = (len(protocol.criteria), 2)
    for values in (result.gt_known, result.top1, result.top5, result.gt_known_over_images):
        assert values.shape == shape
        assert np.isnan(values).all()
    assert result.per_class.shape == (0, *shape)
    assert result.best().tolist() == [0] * len(protocol.criteria)
    assert (result.seen, result.counted.tolist(), result.left_out) == (0, [0, 0], {})


def test_thresholds_are_the_protocols_own_unless_given():
    assert LocalizationEvaluator(GRCAM).thresholds.tolist() == list(GRCAM.sweep)
    assert LocalizationEvaluator(GRCAM, [0, 1]).thresholds.dtype == np.float64


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("rankings", [(None, [0]), ([0], None), (None, None), ([0], [0])])
def test_one_unclassified_image_makes_all_unclassified(rankings, merged):
    truth = np.array([40.0, 40, 140, 140])
    evaluator, other = LocalizationEvaluator(GRCAM, [0.1]), LocalizationEvaluator(GRCAM, [0.1])
    for target, ranking in zip((evaluator, other if merged else evaluator), rankings, strict=True):
        target.accumulate(box_map(40, 40, 140, 140), SQUARE, truth, label=0, top5=ranking)
    if merged:
        evaluator.merge(other)
    result = evaluator.compute()
    expected = [[np.nan if None in rankings else 100]]
    np.testing.assert_array_equal(result.top1, expected)
    np.testing.assert_array_equal(result.top5, expected)


def left_out_of_spol(count_missing=False):
    """Of five images two have their box outside the crop, and two are left out by name."""
    evaluator = LocalizationEvaluator(SPOL, [0.2], count_missing)
    named = SPOL.left_out[0]
    for name, box in (
        ("a", [0, 0, 9, 9]),
        ("b", [0, 0, 9, 9]),
        (named, [0] * 4),
        (named, [0] * 4),
        ("c", [66, 66, 166, 166]),
    ):
        found = [np.array([[50.0, 50, 150, 150]])]
        evaluator.accumulate_boxes(found, CROP, np.array(box, float), label=0, top5=[0], image_id=f"val/{name}")
    return evaluator


def test_what_is_left_out_is_counted_by_reason():
    outside, by_name = "no ground-truth box left in the frame", "left out by name in the released code"
    evaluator = left_out_of_spol()
    result = evaluator.compute()
    assert (result.seen, result.counted.tolist(), result.left_out) == (5, [1], {outside: 2, by_name: 2})
    assert (result.gt_known[0, 0], result.top1[0, 0], result.top5[0, 0]) == (100, 100, 100)
    evaluator.merge(left_out_of_spol())
    assert evaluator.compute().left_out == {outside: 4, by_name: 4}
    evaluator.merge(left_out_of_spol())
    assert evaluator.compute().left_out == {outside: 6, by_name: 6}
    counting = left_out_of_spol(count_missing=True).compute()
    assert (counting.counted.tolist(), counting.left_out) == ([3], {by_name: 2})
    assert counting.gt_known[0, 0] == pytest.approx(100 / 3)


def test_maps_are_height_by_width_and_frames_width_by_height():
    protocol = replace(WSOLEVAL_V1, frame="resize 6x4")
    frame = Frame((12, 8), (6, 4), (0, 0, 6, 4))
    evaluator = LocalizationEvaluator(protocol, [0.5])
    evaluator.accumulate(np.ones((4, 6)), frame, np.array([0.0, 0, 10, 6]), label=0)
    assert evaluator.compute().gt_known[0, 0] == 100
    with pytest.raises(ValueError, match=r"the map is \(4, 6\), its frame \(6, 4\) \(width, height\)"):
        evaluator.accumulate(np.ones((6, 4)), frame, np.array([0.0, 0, 10, 6]), label=0)


def test_evaluators_of_stored_boxes_merge():
    """Boxes that were stored have no threshold that is known: NaN, which equals itself here."""
    truth = np.array([40.0, 40, 140, 140])
    one, other = (LocalizationEvaluator(GRCAM, [np.nan]) for _ in range(2))
    one.accumulate_boxes([truth[None]], SQUARE, truth, label=0)
    other.accumulate_boxes([truth[None] + 80], SQUARE, truth, label=0)
    one.merge(other)
    assert (one.compute().gt_known.tolist(), one.compute().seen) == ([[50]], 2)


maps = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(2, 24), st.integers(2, 24), st.integers(0, 3)),
    min_size=2, max_size=6,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(maps, st.sampled_from(list(PROTOCOLS)), st.integers(1, 5))
def test_merging_equals_accumulating_at_once(items, name, split):
    protocol = PROTOCOLS[name]
    frame = frame_for(protocol, (256, 256))
    thresholds = (0.1, 0.5)

    def accumulated(chosen):
        evaluator = LocalizationEvaluator(protocol, thresholds)
        for x, y, width, height, label in chosen:
            truth = frame.to_original([x + 2, y, x + width + 4, y + height + 1])
            evaluator.accumulate(box_map(x, y, x + width, y + height), frame, truth, label, top5=[label, 9])
        return evaluator

    together, first = accumulated(items), accumulated(items[:split])
    first.merge(accumulated(items[split:]))
    one, two = together.compute(), first.compute()
    for field in ("gt_known", "top1", "top5", "counted", "gt_known_over_images"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert one.seen == two.seen


def test_refusals():
    evaluator = LocalizationEvaluator(BAS, [0.5])
    with pytest.raises(ValueError, match="measures in the frame 'resize 256 crop 224'"):
        evaluator.accumulate(box_map(0, 0, 5, 5), SQUARE, np.array([0.0, 0, 5, 5]), label=0)
    with pytest.raises(ValueError, match="the map is"):
        evaluator.accumulate(np.zeros((14, 14)), CROP, np.array([0.0, 0, 5, 5]), label=0)
    with pytest.raises(ValueError, match="NaN"):
        evaluator.accumulate(np.full((224, 224), np.nan), CROP, np.array([0.0, 0, 5, 5]), label=0)
    for other in (LocalizationEvaluator(BAS, [0.4]), LocalizationEvaluator(SPOL, [0.5])):
        with pytest.raises(ValueError, match="^evaluators of different protocols or thresholds can't be merged$"):
            evaluator.merge(other)
    with pytest.raises(ValueError, match="^2 sets of boxes for 1 thresholds$"):
        evaluator.accumulate_boxes([np.empty((0, 4))] * 2, CROP, np.array([0.0, 0, 5, 5]), label=0)
    assert evaluator.compute().seen == 0


TOO_FAR = [[300, 200, 450, 350], [-0.5, 0, 50, 60], [0, -0.5, 50, 60], [0, 0, 224.5, 224], [0, 0, 224, 224.5]]


@pytest.mark.parametrize("box", TOO_FAR)
def test_boxes_that_leave_their_frame_are_refused(box):
    """A right box in pixels of an image of 500 x 375 would have counted as a miss."""
    evaluator = LocalizationEvaluator(WSOLEVAL_V1, [0.2, 0.5])
    frame, truth = frame_for(WSOLEVAL_V1, (500, 375)), np.array([[300.0, 200, 450, 350]])
    found = [np.array([[1.0, 2, 3, 4], box]), np.array([[0.0, 0, 224, 224]])]
    said = (
        f"the box {[float(corner) for corner in box]} reaches outside its frame of (224, 224) (width, height); "
        "boxes are in pixels of the frame, see Frame.to_frame"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        evaluator.accumulate_boxes(found, frame, truth, 0)
    scores = ImageScores(truth, [np.array(box, float), found[1][0]], np.zeros(2), np.ones(2, bool))
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        evaluator.accumulate_scores(scores, frame, 0)
    assert evaluator.compute().seen == 0


def test_boxes_may_leave_their_frame_by_what_rounding_moves():
    evaluator = LocalizationEvaluator(WSOLEVAL_V1, [0.5])
    found = [np.array([[-1e-6, -1e-6, 224 + 1e-6, 224 + 1e-6]])]
    evaluator.accumulate_boxes(found, SQUARE, np.array([[0.0, 0, 224, 224]]), 0)
    assert evaluator.compute().gt_known[0, 0] == 100


def test_images_that_were_compared_already_count_by_hand():
    """Of label 3, both hit at the first threshold and not counted at the second; one is left out by name."""
    evaluator = LocalizationEvaluator(SPOL, [0.2, 0.5])
    box = np.array([50.0, 50, 150, 150])
    scores = score_boxes(SPOL, [box[None], np.empty((0, 4))], CROP, CROP.to_original(box))
    for name, ranking in (("a", [3, 1]), ("b", [1, 3]), (SPOL.left_out[0], [3, 1])):
        evaluator.accumulate_scores(scores, CROP, 3, ranking, name)
    result = evaluator.compute()
    for name, percent in (("gt_known", 100), ("top1", 50), ("top5", 100)):
        np.testing.assert_array_equal(getattr(result, name), [[percent, np.nan]])
    assert (result.seen, result.counted.tolist(), result.counted.dtype) == (3, [2, 0], np.int64)
    assert (result.hits.ids, result.hits.labels.tolist()) == (["a", "b"], [3, 3])
    assert (result.hits.first.tolist(), result.hits.five.tolist()) == ([True, False], [True, True])
    assert result.hits.correct().tolist() == [[[True, False]]] * 2
    assert result.hits.counted().tolist() == [[True, False]] * 2
    with pytest.raises(ValueError, match="^scores at 2 thresholds for 1$"):
        LocalizationEvaluator(SPOL, [0.2]).accumulate_scores(scores, CROP, 3)


@pytest.mark.parametrize("name", [None, "a"])
def test_hits_have_the_names_that_images_were_given(name):
    """However they were counted; unclassified, so that no class of theirs is right."""
    evaluator, box = LocalizationEvaluator(WSOLEVAL_V1, [0.5]), np.array([40.0, 40, 140, 140])
    named = {} if name is None else {"image_id": name}
    evaluator.accumulate(box_map(40, 40, 140, 140), SQUARE, box, 1, **named)
    evaluator.accumulate_boxes([box[None]], SQUARE, box, 1, **named)
    evaluator.accumulate_scores(score_boxes(WSOLEVAL_V1, [box[None]], SQUARE, box), SQUARE, 1, **named)
    hits = evaluator.compute().hits
    assert hits.ids == [name or ""] * 3
    assert (hits.first.tolist(), hits.five.tolist()) == ([False] * 3, [False] * 3)


def test_images_without_a_truth_are_left_out_by_reason():
    evaluator = LocalizationEvaluator(SPOL, [0.5])
    for reason in ("no box", "no box", "damaged"):
        evaluator.leave_out(reason)
    result = evaluator.compute()
    assert (result.seen, result.left_out, result.counted.tolist()) == (3, {"no box": 2, "damaged": 1}, [0])


def test_maps_lie_in_0_to_1_unless_the_protocol_stretches_them():
    picture, truth = box_map(40, 40, 140, 140) * 2, np.array([40.0, 40, 140, 140])
    evaluator = LocalizationEvaluator(WSOLEVAL_V1, [0.5])
    with pytest.raises(ValueError, match=r"leaves \[0, 1\]: least 0.0, greatest 2.0"):
        evaluator.accumulate(picture, SQUARE, truth, label=0)
    assert evaluator.compute().seen == 0
    evaluator = LocalizationEvaluator(GRCAM, [0.5])
    evaluator.accumulate(picture, SQUARE, truth, label=0)
    assert evaluator.compute().gt_known[0, 0] == 100
