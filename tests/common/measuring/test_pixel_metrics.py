import numpy as np
import pytest

from common.measuring.extraction import min_max
from common.measuring.pixel_metrics import PixelEvaluator, area_under_precision_recall, iou_by_threshold


def straight_pxap(maps_and_masks, thresholds):
    """PxAP by definition: precision and recall of all pixels together at each threshold, high to low."""
    values = np.concatenate([m.ravel() for m, _ in maps_and_masks])
    truths = np.concatenate([g.ravel() for _, g in maps_and_masks]).astype(bool)
    area, last = 0.0, 0.0
    for threshold in sorted([*thresholds, 1.0], reverse=True):
        predicted = values >= threshold
        recall = (predicted & truths).sum() / truths.sum()
        precision = (predicted & truths).sum() / predicted.sum() if predicted.any() else 0.0
        area, last = area + precision * (recall - last), recall
    return 100 * area


def test_pxap_equals_its_definition():
    rng = np.random.default_rng(0)
    thresholds = np.arange(0, 1, 0.01)
    evaluator, pairs = PixelEvaluator(thresholds), []
    for _ in range(3):
        mask = np.zeros((40, 50), np.uint8)
        mask[10:25, 12:30] = 1
        picture = min_max(rng.random((40, 50)) * 0.6 + mask * 0.4)
        picture[rng.random((40, 50)) < 0.01] = 0.0
        evaluator.accumulate(picture, mask)
        pairs.append((picture, mask))
    assert evaluator.compute().pxap == pytest.approx(straight_pxap(pairs, thresholds), abs=1e-9)


def test_a_value_of_exactly_one_has_a_bin_of_its_own():
    mask = np.array([[1, 1], [0, 0]])
    picture = np.array([[1.0, 1.0], [0.7, 0.7]])
    evaluator = PixelEvaluator([0.0, 0.5])
    evaluator.accumulate(picture, mask)
    result = evaluator.compute()
    assert (result.pxap, result.piou, result.mean_iou, result.images) == (100, 100, 100, 1)


def test_pixels_are_told_apart_by_thousandths_unless_told_otherwise():
    for low, high, pxap in ((0.4996, 0.5004, 100), (0.5004, 0.5009, 50), (0.0004, 0.0009, 50), (0.9985, 0.9995, 100)):
        evaluator = PixelEvaluator()
        evaluator.accumulate(np.array([[high, low]]), np.array([[1, 0]]))
        assert evaluator.compute().pxap == pxap


def test_a_single_brightest_pixel_counts():
    """Pixel 1 is the object and the brightest: precision 1 at a recall of 1; the other way round 1/2."""
    for mask, pxap, piou in (([[1, 0]], 100, 100), ([[0, 1]], 50, 50)):
        evaluator = PixelEvaluator([0.0, 0.5])
        evaluator.accumulate(np.array([[0.6, 0.2]]), np.array(mask))
        result = evaluator.compute()
        assert (result.pxap, result.piou, result.mean_iou) == (pxap, piou, piou)


def test_an_image_without_object_and_prediction_has_iou_zero():
    """At 0.5 the first image is perfect and the second predicts nothing: (1 + 0) / 2."""
    thresholds = np.linspace(0, 0.999, 300)
    evaluator = PixelEvaluator(thresholds)
    mask = np.zeros((20, 20))
    mask[5:15, 5:15] = 1
    evaluator.accumulate(mask * 0.9, mask)
    evaluator.accumulate(np.zeros((20, 20)), np.zeros((20, 20)))
    result = evaluator.compute()
    assert (result.mean_iou, result.images) == (50, 2)


def test_merged_pixels_equal_pixels_accumulated_at_once():
    rng = np.random.default_rng(3)
    images = [(rng.random((6, 7)), rng.random((6, 7)) < 0.3) for _ in range(5)]
    together = PixelEvaluator()
    parts = [PixelEvaluator() for _ in range(3)]
    for number, (picture, mask) in enumerate(images):
        together.accumulate(picture, mask)
        parts[number % 3].accumulate(picture, mask)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    one, other = together.compute(), parts[0].compute()
    assert one.images == other.images == 5
    assert (one.pxap, one.piou) == (other.pxap, other.piou)
    assert one.mean_iou == pytest.approx(other.mean_iou, rel=1e-12)  # sums of fractions, in another order
    with pytest.raises(ValueError, match="^evaluators of different thresholds can't be merged$"):
        together.merge(PixelEvaluator([0.0, 0.5]))


def test_pixel_metrics_of_a_perfect_and_of_an_inverted_map():
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    for picture, piou in ((mask.astype(float), 100.0), (1.0 - mask, 25.0)):
        evaluator = PixelEvaluator()
        evaluator.accumulate(picture, mask)
        result = evaluator.compute()
        assert result.piou == result.mean_iou == piou
    # The inverted map finds the object only when everything is predicted: precision 1/4 over a recall of 1.
    assert result.pxap == pytest.approx(25.0)


def test_pooled_and_mean_iou_differ_on_objects_of_different_size():
    evaluator = PixelEvaluator([0.0, 0.5])
    large, small = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    large[:, :8], small[0, 0] = 1, 1
    evaluator.accumulate(large.astype(float), large)
    evaluator.accumulate(np.zeros((10, 10)), small)
    result = evaluator.compute()
    assert result.piou == pytest.approx(100 * 80 / 81)  # 80 found, 1 missed
    assert result.mean_iou == pytest.approx(50.0)


def test_ignored_pixels_count_nowhere():
    mask, ignore = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    mask[:2], ignore[2:] = 1, 1
    evaluator = PixelEvaluator()
    evaluator.accumulate(np.ones((4, 4)), mask, ignore)
    result = evaluator.compute()
    assert (result.piou, result.pxap) == (100, 100)


def test_masks_without_object_are_refused():
    evaluator = PixelEvaluator()
    evaluator.accumulate(np.ones((4, 4)), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="^no mask holds an object pixel, so there is no recall to speak of$"):
        evaluator.compute()
    with pytest.raises(ValueError, match="differ in shape"):
        evaluator.accumulate(np.ones((4, 4)), np.zeros((4, 5), np.uint8))


def test_each_image_is_kept_in_hundredths():
    """A thousand thresholds in steps of ten, and values of exactly 1 by themselves; merged in order, and said."""
    evaluator, other = PixelEvaluator(), PixelEvaluator()
    evaluator.accumulate(np.float32([[0.0, 0.005, 0.123, 0.999, 1.0]]), np.array([[0, 1, 1, 1, 1]]))
    other.accumulate(np.float32([[0.3, 0.3]]), np.array([[1, 0]]))
    evaluator.left_out["no mask"] += 1
    other.left_out["no mask"] += 2
    evaluator.merge(other)
    result = evaluator.compute()
    assert (result.by_image.shape, result.by_image.dtype) == ((2, 2, 101), np.uint32)
    assert [np.flatnonzero(each).tolist() for each in result.by_image.reshape(4, 101)] == [
        [0, 12, 99, 100],
        [0],
        [30],
        [30],
    ]
    assert result.by_image.sum() == 7
    assert result.left_out == {"no mask": 3}
    assert str(result) == (f"PxAP {result.pxap:.2f} %, pIoU {result.piou:.2f} %, mean IoU {result.mean_iou:.2f} % "
                           "of 2 images, 3 left out")  # fmt: skip
    assert str(other.compute()).endswith("1 images, 2 left out")
    other.left_out.clear()
    assert str(other.compute()).endswith("1 images")


def test_few_thresholds_are_all_kept():
    evaluator = PixelEvaluator((0.0, 0.25, 0.5, 0.75))
    evaluator.accumulate(np.float32([[0.1, 0.3, 0.6, 0.8, 1.0]]), np.array([[1, 0, 1, 0, 1]]))
    assert evaluator.compute().by_image.tolist() == [[[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]]
    evaluator = PixelEvaluator(np.linspace(0, 0.99, 199))
    evaluator.accumulate(np.float32([[0.5, 0.6]]), np.array([[1, 0]]))
    assert evaluator.compute().by_image.shape == (1, 2, 200)


def test_histograms_of_several_images_are_independent():
    counts = np.random.default_rng(0).integers(1, 9, (2, 3, 5, 7))
    for function in (area_under_precision_recall, iou_by_threshold):
        together = function(*counts)
        for place in np.ndindex(3, 5):
            np.testing.assert_array_equal(together[place], function(*counts[(slice(None), *place)]))
