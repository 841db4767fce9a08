"""Which image is a hit under which protocol, and the accuracies that follow."""

from dataclasses import replace

import numpy as np
import pytest

from common.measuring.extraction import Extractor
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator, LocalizationResult, score_boxes
from common.measuring.protocols import ADL, BAS, BAS_EXTENSION, GRCAM, PROTOCOLS, SPOL, WSOLEVAL_V1, WSOLEVAL_V2
from tests.common.measuring.squares import CROP, SQUARE, box_map, frame_for


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "multi"), [(WSOLEVAL_V1, 0), (WSOLEVAL_V2, 1)])
def test_recorded_max_box_acc(golden, protocol, multi):
    arrays = golden("wsoleval/boxes")
    thresholds = np.arange(0, 1, float(arrays["step"]))
    evaluator = LocalizationEvaluator(replace(protocol, criteria=(0.3, 0.5, 0.7)), thresholds)
    for index, (levels, size) in enumerate(zip(arrays["maps_u8"], arrays["sizes"].tolist(), strict=True)):
        boxes = arrays["boxes"][arrays["boxes"][:, 0] == index, 1:]
        evaluator.accumulate(levels.astype(np.float64) / 255, Frame.squash(tuple(size)), boxes, label=0)
    result = evaluator.compute()
    for row, percent in enumerate((30, 50, 70)):
        hits = np.round(result.gt_known[row] * result.counted / 100)
        np.testing.assert_array_equal(hits, arrays[f"num_correct_multi{multi}_iou{percent}"])
    np.testing.assert_allclose(result.gt_known.max(axis=1), arrays[f"maxboxacc_multi{multi}"], rtol=1e-12)
    assert result.max_box_acc == pytest.approx(arrays[f"maxboxacc_multi{multi}"].mean())


@pytest.mark.parametrize(("recorded", "with_boxless"), [("final_cub", False), ("final_imagenet", True)])
def test_recorded_loop_of_spol(golden, recorded, with_boxless):
    arrays = golden("spol/evalloop")
    # The recorded truths are in the crop already, one of them inside out: a rule that keeps such boxes passes them on.
    evaluator = LocalizationEvaluator(replace(SPOL, ground_truth="clip-one-sided"), [0.5])
    boxless = set(arrays["imagenet_no_box"].tolist()) if with_boxless else set()
    for index, packed in enumerate(arrays["mask_packed"]):
        truths = [box for box in arrays["gt"][index][: 2 if with_boxless else 1] if box[0] != -1]
        truths = [] if index in boxless else CROP.to_original(truths)
        top1, top5 = arrays["top1top5"][index]
        ranking = [7 if top1 else 1, 7 if top5 else 2, 3, 4, 5]  # the label is 7
        mask = np.unpackbits(packed).reshape(224, 224).astype(np.float32)
        evaluator.accumulate(mask, CROP, truths, label=7, top5=ranking)
    result = evaluator.compute()
    values = [result.at(np.array([0]))[name] / 100 for name in ("top1", "top5", "gt_known")]
    printed = f"count={result.counted[0]} | top1={values[0]:.5f} | top5={values[1]:.5f} | GT-Known={values[2]:.5f}"
    assert printed == str(arrays[recorded])


def test_bas_means_over_classes_by_hand():
    # Class 0: one hit of one. Class 1: one hit of three. Over classes (100 + 33.3) / 2, over images 50.
    evaluator = LocalizationEvaluator(BAS, [0.5])
    truth = CROP.to_original([40, 40, 140, 140])
    for label, hit in ((0, True), (1, True), (1, False), (1, False)):
        picture = box_map(40, 40, 140, 140) if hit else box_map(150, 150, 200, 200)
        evaluator.accumulate(picture, CROP, truth, label, top5=[label, 2, 3, 4, 5])
    result = evaluator.compute()
    assert result.gt_known[0, 0] == pytest.approx((100 + 100 / 3) / 2)
    assert result.gt_known_over_images[0, 0] == 50
    assert result.per_class[:, 0, 0].tolist() == pytest.approx([100, 100 / 3])
    assert (result.images_hit.tolist(), result.counted.tolist()) == ([[2]], [4])


def test_the_same_images_over_images_by_hand():
    evaluator = LocalizationEvaluator(BAS_EXTENSION, [0.5])
    truth = CROP.to_original([40, 40, 140, 140])
    for label, box in ((0, (40, 40, 140, 140)), (2, (40, 40, 140, 140)), (2, (150, 150, 200, 200)), (2, (0, 0, 9, 9))):
        evaluator.accumulate(box_map(*box), CROP, truth, label)
    result = evaluator.compute()
    assert result.gt_known.tolist() == result.gt_known_over_images.tolist() == [[50]]
    np.testing.assert_allclose(result.per_class[:, 0, 0], [100, np.nan, 100 / 3])
    assert result.protocol == BAS_EXTENSION


def test_classes_without_a_counted_image_are_no_part_of_the_mean():
    """Three classes; the third is found at the lowest threshold only, and nobody at the 300 highest: NaN, written."""
    evaluator = LocalizationEvaluator(replace(SPOL, mean_over="classes"), [0.2, 0.5, *np.linspace(0.85, 0.95, 300)])
    truth = CROP.to_original([50, 50, 150, 150])
    for label, box, value in ((0, (50, 50, 150, 150), 0.8), (1, (0, 0, 20, 20), 0.8), (2, (50, 50, 150, 150), 0.4)):
        evaluator.accumulate(box_map(*box) * value, CROP, truth, label, top5=[label])
    result = evaluator.compute()
    expected = [[200 / 3, 50, *[np.nan] * 300]]
    for name in ("gt_known", "top1", "top5", "gt_known_over_images"):
        np.testing.assert_allclose(getattr(result, name), expected)
    assert result.counted.tolist() == [3, 2, *[0] * 300]


def test_each_criterion_is_read_at_its_own_threshold():
    values = [np.array([[10.0, 20], [30, 70]]) + more for more in (0, 1, 2, 3)]
    result = LocalizationResult(WSOLEVAL_V2, np.array([0.1, 0.2]), *values, counted=np.array([1, 1]), seen=1)
    assert result.at(np.array([1, 0])) == {
        "gt_known": 25, "top1": 26, "top5": 27, "gt_known_error": 75, "top1_error": 74, "top5_error": 73,
        "over_images": 28,
    }  # fmt: skip


def test_thresholds_at_which_nobody_is_counted_are_never_the_best():
    evaluator = LocalizationEvaluator(SPOL, [0.9, 0.2])
    evaluator.accumulate(box_map(0, 0, 20, 20) * 0.5, CROP, CROP.to_original([50, 50, 150, 150]), label=0)
    result = evaluator.compute()
    np.testing.assert_array_equal(result.gt_known, [[np.nan, 0]])
    assert result.best().tolist() == [1]
    assert result.max_box_acc == 0


def test_top1_and_top5_by_hand():
    evaluator = LocalizationEvaluator(GRCAM, [0.1])
    truth = np.array([40.0, 40, 140, 140])
    for ranking in ([3, 1, 2, 4, 5], [1, 2, 3, 4, 5], [1, 2, 4, 5, 6], [1, 2, 4, 5, 6, 3]):
        evaluator.accumulate(box_map(40, 40, 140, 140), SQUARE, truth, label=3, top5=ranking)
    values = evaluator.compute().at(np.array([0]))
    assert (values["top1"], values["top5"], values["gt_known"]) == (25, 50, 100)
    assert (values["top1_error"], values["top5_error"], values["gt_known_error"]) == (75, 50, 0)


def test_without_a_classifier_there_is_no_top1():
    evaluator = LocalizationEvaluator(GRCAM, [0.1])
    truth = np.array([40.0, 40, 140, 140])
    evaluator.accumulate(box_map(40, 40, 140, 140), SQUARE, truth, label=0, top5=[0])
    evaluator.accumulate(box_map(40, 40, 140, 140), SQUARE, truth, label=0)
    result = evaluator.compute()
    assert np.isnan(result.top1).all()
    assert result.gt_known[0, 0] == 100


def test_a_box_without_a_truth_is_reported_all_the_same():
    scores = score_boxes(SPOL, [np.array([[1.0, 2, 3, 4]]), np.empty((0, 4))], CROP, np.array([0.0, 0, 9, 9]))
    assert scores.boxes[0].tolist() == [1, 2, 3, 4]
    assert scores.boxes[1] is None
    assert (scores.iou.tolist(), scores.counted.tolist()) == ([0, 0], [False, False])


def test_any_of_several_ground_truths_counts():
    boxes = np.array([[40.0, 40, 140, 140], [0, 0, 20, 20]])
    for picture, expected in ((box_map(0, 0, 20, 20), 100), (box_map(180, 180, 220, 220), 0)):
        evaluator = LocalizationEvaluator(WSOLEVAL_V1, [0.5])
        evaluator.accumulate(picture, SQUARE, boxes, label=0)
        assert evaluator.compute().gt_known[0, 0] == expected


def test_operators_differ_at_exactly_one_half():
    # The truth's 10 x 10 pixels against 10 x 20 with one added to each side: 100 / 200.
    found, truth = [np.array([[0.0, 0, 9, 19]])], np.array([[0.0, 0, 9, 9]])
    for protocol, expected in ((GRCAM, 100), (ADL, 100), (replace(GRCAM, strict=True), 0)):
        evaluator = LocalizationEvaluator(protocol, [0.5])
        frame = frame_for(protocol, (224, 224) if protocol.frame == "resize 224" else (256, 256))
        evaluator.accumulate_boxes(found, frame, frame.to_original(truth), label=0)
        assert evaluator.compute().gt_known[0, 0] == expected


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_missing_boxes_by_protocol(name):
    protocol = PROTOCOLS[name]
    frame = frame_for(protocol, (256, 256))
    evaluator = LocalizationEvaluator(protocol, [0.5])
    evaluator.accumulate(np.zeros((224, 224)), frame, frame.to_original([0, 0, 224, 224]), label=0)
    result = evaluator.compute()
    whole_frame_counts = name in ("bas", "bas-extension")
    if name == "spol":
        assert result.counted.tolist() == [0]
        assert np.isnan(result.gt_known).all()
    else:
        assert result.gt_known[0, 0] == (100 if whole_frame_counts else 0)


def test_the_closest_of_several_boxes_is_reported():
    boxes = [np.array([[0.0, 0, 10, 10], [50, 50, 100, 100]])]
    scores = score_boxes(WSOLEVAL_V2, boxes, SQUARE, np.array([[50.0, 50, 100, 100]]))
    assert scores.boxes[0].tolist() == [50, 50, 100, 100]
    assert scores.iou[0] == 1


def test_best_threshold_is_the_first_of_equals():
    evaluator = LocalizationEvaluator(WSOLEVAL_V1, [0.2, 0.4, 0.6])
    evaluator.accumulate(box_map(40, 40, 140, 140), SQUARE, np.array([40.0, 40, 140, 140]), label=0)
    result = evaluator.compute()
    assert result.best().tolist() == [0]
    assert result.nearest(0.57).tolist() == [2]


def test_an_extractor_is_part_of_the_protocols_identity():
    assert replace(BAS, extractor=Extractor("value", "largest-contour", "exclusive")) != BAS


def test_each_threshold_has_the_closest_of_its_own_boxes():
    """51 x 50 of 51 x 51 pixels at the last; two thresholds share an array, one has none."""
    shared = np.array([[0.0, 0, 10, 10], [50, 50, 100, 100]])
    three = np.array([[0.0, 0, 9, 9], [50, 50, 100, 99], [0, 0, 8, 8]])
    scores = score_boxes(WSOLEVAL_V2, [shared, shared, np.empty((0, 4)), three], SQUARE, np.array([50.0, 50, 100, 100]))
    assert [box if box is None else box.tolist() for box in scores.boxes] == [
        [50, 50, 100, 100], [50, 50, 100, 100], None, [50, 50, 100, 99],
    ]  # fmt: skip
    np.testing.assert_allclose(scores.iou, [1, 1, 0, 50 / 51], rtol=1e-15)
    assert scores.counted.tolist() == [True] * 4


def result_of_two_thresholds(classified=True, **counts):
    """The best of three criteria lie at the second threshold, the first and the first: the mean of 60, 80 and 40.1."""
    gt_known = np.array([[50.0, 60], [80, 20], [40.1, 30]])
    others = (gt_known / 2, gt_known * 0.9) if classified else [np.full((3, 2), np.nan)] * 2
    thresholds = np.array([0.12345, 0.5])
    return LocalizationResult(WSOLEVAL_V2, thresholds, gt_known, *others, gt_known, np.array([5, 5]), **counts)


def test_results_say_what_they_are():
    assert str(result_of_two_thresholds(seen=7, left_out={"no box": 1, "damaged": 1})) == (
        "wsoleval-v2: GT-known 60.03 %, Top-1 30.02 %, Top-5 54.03 % of 5 images, 2 left out, "
        "at the threshold 0.5, 0.123, the best on these images"
    )
    assert str(result_of_two_thresholds(classified=False, seen=5)) == (
        "wsoleval-v2: GT-known 60.03 % of 5 images, at the threshold 0.5, 0.123, the best on these images"
    )


def test_results_of_no_image_have_no_figure():
    nothing = replace(result_of_two_thresholds(seen=2), counted=np.array([0, 0]))
    assert str(nothing) == "wsoleval-v2: no figure, for none of 2 images has a box to be measured by"
