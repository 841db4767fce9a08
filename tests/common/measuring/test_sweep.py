"""A sweep over a map's levels against its judge, which traces contours at each threshold."""

import cv2
import numpy as np
import pytest

from common.measuring.extraction import Extractor, every_contour, largest_component, largest_contour, min_max
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator, score_boxes
from common.measuring.protocols import PROTOCOLS, WSOLEVAL_V1
from common.measuring.sweep import Sweep, is_worth_it

component_tree = pytest.importorskip(
    "common.measuring.component_tree",
    reason="the optional extra `fast` is not in this environment",
    exc_type=ImportError,
)


def random_maps():
    """Maps of few grey levels, so that sizes tie; smooth ones; a constant one, an all-zero one, one pixel."""
    rng = np.random.default_rng(7)
    for number in range(150):
        height, width = rng.integers(1, 24, 2)
        levels = int(rng.integers(1, 12))
        yield (rng.integers(0, levels + 1, (height, width)) / levels).astype(np.float32 if number % 2 else np.float64)
    for sigma in (0.5, 1, 2, 4):
        yield min_max(cv2.GaussianBlur(rng.random((40, 56)).astype(np.float32), (0, 0), sigma))
    yield np.full((9, 7), 0.37, np.float32)
    yield np.zeros((5, 5), np.float32)
    yield np.ones((1, 1), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_are_the_judges(name):
    protocol, rng = PROTOCOLS[name], np.random.default_rng(1)
    for picture in random_maps():
        height, width = picture.shape
        frame = Frame((width, height), (width + 32, height + 32), (16, 16, width, height))
        corner = rng.uniform(0, [width, height])
        truth = np.array([[0, 0, width, height], [*(corner / 2), *corner]], np.float64)
        found = protocol.extractor.boxes(picture, protocol.sweep)
        expected = score_boxes(protocol, found, frame, truth)
        scores = Sweep(picture).scores(protocol, protocol.sweep, frame, truth)
        np.testing.assert_array_equal(scores.iou, expected.iou)
        np.testing.assert_array_equal(scores.counted, expected.counted)


def test_hand_made_levels():
    """A ring of rank 2 around a hole that holds an island of rank 3, and a bar of rank 1 below."""
    ranks = np.zeros((12, 12), np.int32)
    ranks[1:8, 1:8] = 2
    ranks[2:7, 2:7] = 0
    ranks[4, 4] = 3
    ranks[10, 2:12] = 1
    outlined = component_tree.filled(ranks, 3)
    assert outlined[2:7, 2:7].tolist() == [[2, 2, 2, 2, 2], [2, 2, 2, 2, 2], [2, 2, 3, 2, 2], [2] * 5, [2] * 5]
    assert outlined[0].max() == 0
    by_polygon = component_tree.largest(outlined, 3, by_polygon=True)
    assert by_polygon.tolist() == [[1, 1, 8, 8], [1, 1, 8, 8], [4, 4, 5, 5]]
    assert component_tree.largest(ranks, 3, by_polygon=False).tolist() == [[1, 1, 8, 8], [1, 1, 8, 8], [4, 4, 5, 5]]
    boxes, low, high = component_tree.regions_and_holes(ranks, 3)
    found = sorted(zip(boxes.tolist(), low.tolist(), high.tolist(), strict=True))
    assert found == [
        ([1, 1, 8, 8], 0, 1),  # the ring
        ([1, 1, 8, 8], 0, 1),  # its hole, whose border is the ring
        ([2, 10, 12, 11], 0, 0),  # the bar
        ([4, 4, 5, 5], 0, 2),  # the island
    ]


@pytest.mark.parametrize("seed", range(3))
def test_regions_are_opencvs(seed):
    """Every box at every level, ties included: few levels make many of them."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        ranks = rng.integers(0, rng.integers(2, 9), rng.integers(2, 20, 2)).astype(np.int32)
        levels = int(ranks.max())
        components = component_tree.largest(ranks, levels, by_polygon=False)
        contours = component_tree.largest(component_tree.filled(ranks, levels), levels, by_polygon=True)
        boxes, low, high = component_tree.regions_and_holes(ranks, levels)
        for level in range(levels):
            mask = (ranks > level).astype(np.uint8)
            assert components[level].tolist() == largest_component(mask)[0].tolist()
            assert contours[level].tolist() == largest_contour(mask)[0].tolist()
            standing = boxes[(low <= level) & (level <= high)]
            assert sorted(standing.tolist()) == sorted(every_contour(mask).tolist())


def test_ranks_count_the_thresholds_below():
    values = np.array([[0.0, 0.1, 0.15], [0.5, 0.95, 1.0]], np.float32)
    thresholds = np.array([0.0, 0.1, 0.15, 0.9], np.float32)
    assert component_tree.value_ranks(values, thresholds).tolist() == [[0, 1, 2], [3, 4, 4]]


def test_an_evaluator_counts_a_sweep_as_it_counts_the_map():
    picture, frame, truth = np.zeros((224, 224)), Frame.squash((400, 300)), np.array([[90.0, 60, 310, 240]])
    picture[40:180, 50:170] = 0.6
    picture[60:160, 60:160] = 1.0
    by_map, by_sweep = LocalizationEvaluator(WSOLEVAL_V1), LocalizationEvaluator(WSOLEVAL_V1)
    by_map.accumulate(picture, frame, truth, label=0)
    by_sweep.accumulate_scores(Sweep(picture).scores(WSOLEVAL_V1, WSOLEVAL_V1.sweep, frame, truth), frame, label=0)
    np.testing.assert_array_equal(by_map.compute().gt_known, by_sweep.compute().gt_known)
    with pytest.raises(ValueError, match="scores at 1 thresholds for 1000"):
        by_sweep.accumulate_scores(Sweep(picture).scores(WSOLEVAL_V1, (0.5,), frame, truth), frame, label=0)


def test_a_sweep_refuses_what_is_no_map():
    with pytest.raises(ValueError, match="holds NaN"):
        Sweep(np.full((4, 4), np.nan))


def test_thresholds_that_cut_alike_share_a_plane():
    picture = min_max(cv2.GaussianBlur(np.random.default_rng(0).random((30, 30)), (0, 0), 2))
    sweep, frame, truth = Sweep(picture), Frame.squash((30, 30), 30), np.array([[3.0, 3, 20, 20]])
    for name in ("wsoleval-v1", "wsoleval-v2", "grcam"):  # the map is stretched already, so that both greys are one
        sweep.scores(PROTOCOLS[name], PROTOCOLS[name].sweep, frame, truth)
    assert len(sweep._planes) == 1


def test_few_maps_are_not_worth_the_start():
    assert not is_worth_it(10)
    assert is_worth_it(100)


def test_a_clamped_box_ends_within_the_frame():
    picture = np.ones((5, 8))
    frame, truth = Frame.squash((8, 5), 8), np.array([[0.0, 0, 8, 5]])
    frame = Frame((8, 5), (8, 5), (0, 0, 8, 5))
    clamped = Extractor("grey", "largest-contour", "clamped").boxes(picture, [0.5])
    assert clamped[0].tolist() == [[0, 0, 7, 4]]
    expected = score_boxes(WSOLEVAL_V1, clamped, frame, truth)
    assert Sweep(picture).scores(WSOLEVAL_V1, [0.5], frame, truth).iou == expected.iou


def test_a_sweep_stretches_where_the_protocol_does():
    picture, frame, truth = np.zeros((224, 224)), Frame.squash((224, 224)), np.array([[60.0, 60, 160, 160]])
    picture[60:160, 60:160] = 1.0
    sweep = Sweep(picture * 2 - 3)
    np.testing.assert_array_equal(sweep.scores(PROTOCOLS["grcam"], (0.5,), frame, truth).iou, [1.0])
    with pytest.raises(ValueError, match=r"leaves \[0, 1\]: least -3.0, greatest -1.0"):
        sweep.scores(WSOLEVAL_V1, (0.5,), frame, truth)
