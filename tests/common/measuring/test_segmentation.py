import numpy as np
import pytest

from common.measuring.segmentation import SWEEP, SegmentationEvaluator, label_map


def maps_of(recorded, case):
    return (recorded[f"{case}/map_u8"] / 255).astype(np.float32) ** 2


def sweep(recorded, cases):
    evaluator = SegmentationEvaluator(20, SWEEP)
    for case in cases:
        evaluator.accumulate_maps(maps_of(recorded, case), recorded[f"{case}/keys"], recorded[f"{case}/gt"])
    return evaluator


def test_the_sweep_is_the_recorded_one(golden):
    """Confusions equal, mIoU 1e-12: 25 thresholds of five images."""
    recorded = golden("bas_segmentation/eval")
    results = sweep(recorded, range(5)).compute()
    np.testing.assert_allclose(SWEEP, recorded["thresholds"], atol=1e-12)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result.confusion, recorded["confusion"][number])
        assert result.miou == pytest.approx(recorded["miou"][number], abs=1e-12)
        assert result.background_among_foreground == pytest.approx(recorded["among_predfg_bg"][number], abs=1e-12)
    np.testing.assert_allclose(results[10].iou, recorded["iou_030"], atol=1e-12)
    found = label_map(maps_of(recorded, 0), recorded["0/keys"], 0.30)
    np.testing.assert_array_equal(found, recorded["pred_030_0"])


def test_two_processes_counts_merge(golden):
    recorded = golden("bas_segmentation/eval")
    first, second = sweep(recorded, range(2)), sweep(recorded, range(2, 5))
    first.merge(second)
    np.testing.assert_array_equal(first.confusions, recorded["confusion"])
    assert first.images == 5
    with pytest.raises(ValueError, match="other classes or thresholds"):
        first.merge(SegmentationEvaluator(20))


def test_a_value_at_the_threshold_is_background(golden):
    recorded = golden("bas_segmentation/eval")
    maps = (recorded["tie/map_u8"] / 255).astype(np.float32)
    for threshold, expected in zip(recorded["tie/thresholds"], recorded["tie/label"], strict=True):
        found = label_map(maps, np.array([0]), threshold)[0]
        np.testing.assert_array_equal(found > 0, expected > 0)


def test_masks_are_counted_as_recorded(golden):
    """Equal confusions; shares 1e-12. 255 in a prediction is background."""
    recorded = golden("bas_segmentation/eval")
    evaluator = SegmentationEvaluator(20)
    for case in range(5):
        evaluator.accumulate(recorded[f"{case}/seg_pred"], recorded[f"{case}/gt"])
    (result,) = evaluator.compute()
    np.testing.assert_array_equal(result.confusion, recorded["semseg/confusion"])
    np.testing.assert_allclose(result.iou, recorded["semseg/iou"], atol=1e-12)
    np.testing.assert_allclose(result.false_positives, recorded["semseg/fp"], atol=1e-12)
    np.testing.assert_allclose(result.false_negatives, recorded["semseg/fn"], atol=1e-12)
    assert result.miou == pytest.approx(float(recorded["semseg/miou"]), abs=1e-12)


def test_what_does_not_fit_is_refused():
    evaluator = SegmentationEvaluator(2)
    with pytest.raises(ValueError, match=r"the prediction is \(3, 2\), the truth \(2, 2\)"):
        evaluator.accumulate(np.zeros((2, 3), int), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="predicted label 3, expected 0 to 2"):
        evaluator.accumulate(np.full((2, 2), 3), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="true label 3, expected 0 to 2"):
        evaluator.accumulate(np.zeros((2, 2), int), np.full((2, 2), 3))
    assert evaluator.images == 0


def test_thresholds_ascend():
    with pytest.raises(ValueError, match="do not ascend"):
        SegmentationEvaluator(2, (0.3, 0.2))
