"""A sweep over a map's levels against its judge, which traces contours at each threshold."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from common.measuring.extraction import (
    CUTS,
    cutting,
    every_contour,
    largest_component,
    largest_contour,
    min_max,
)
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator, score_boxes
from common.measuring.protocols import PROTOCOLS, WSOLEVAL_V1
from common.measuring.sweep import Sweep, is_worth_it

component_tree = pytest.importorskip(
    "common.measuring.component_tree",
    reason="the optional extra `fast` is not in this environment",
    exc_type=ImportError,
)

AT_HALF = replace(WSOLEVAL_V1, sweep=(0.5,))

QUOTIENT = 1e-9
"""Unequal quotients of areas are further apart here: by one over the product of two areas of less than 8,000 pixels. They
are not compared bit for bit, since a busy virtual machine rarely divides to the last bit: in one array of 94 equal entries
63 / 1680 was 0.0375 in most and 0.0375 - 1.1e-12 in every other odd one, and all were right when divided again."""


def random_maps():
    """Maps of few grey levels, so that sizes tie; smooth ones; a constant one, an all-zero one, one pixel."""
    rng = np.random.default_rng(7)
    for number in range(50):
        height, width = rng.integers(1, 24, 2)
        levels = int(rng.integers(1, 12))
        greys = np.array([grey / levels for grey in range(levels + 1)], np.float32 if number % 2 else np.float64)
        yield greys[rng.integers(0, levels + 1, (height, width))]
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
        scores = Sweep(picture, list(PROTOCOLS.values())).scores(protocol, frame, truth)
        np.testing.assert_allclose(scores.iou, expected.iou, rtol=0, atol=QUOTIENT)
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
    polygons, regions = (component_tree.regions(plane, 3, by) for plane, by in ((outlined, True), (ranks, False)))
    assert component_tree.largest(polygons, 3, by_polygon=True).tolist() == [[1, 1, 8, 8], [1, 1, 8, 8], [4, 4, 5, 5]]
    assert component_tree.largest(regions, 3, by_polygon=False).tolist() == [[1, 1, 8, 8], [1, 1, 8, 8], [4, 4, 5, 5]]
    assert sorted(regions[:, : component_tree.FIRST].tolist()) == [
        [1, 1, 8, 8, 0, 1, 24],  # the ring
        [2, 10, 12, 11, 0, 0, 10],  # the bar
        [4, 4, 5, 5, 0, 2, 1],  # the island
    ]
    holes = component_tree.holes(ranks, outlined, 3)
    assert holes[:, : component_tree.FIRST].tolist() == [[1, 1, 8, 8, 0, 1, 24]]  # its border is the ring
    assert sorted(polygons[:, : component_tree.FIRST].tolist()) == [
        [1, 1, 8, 8, 0, 1, 72],  # 6 x 6 pixels' area, in halves
        [2, 10, 12, 11, 0, 0, 0],
        [4, 4, 5, 5, 2, 2, 0],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_regions_are_opencvs(seed):
    """Every box at every level, ties included: few levels make many of them."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        ranks = rng.integers(0, rng.integers(2, 9), rng.integers(2, 20, 2)).astype(np.int32)
        levels = int(ranks.max())
        regions, outlined = component_tree.regions(ranks, levels, False), component_tree.filled(ranks, levels)
        components = component_tree.largest(regions, levels, by_polygon=False)
        contours = component_tree.largest(component_tree.regions(outlined, levels, True), levels, by_polygon=True)
        found = np.concatenate([regions, component_tree.holes(ranks, outlined, levels)])
        boxes, low, high = found[:, :4], found[:, component_tree.LOW], found[:, component_tree.HIGH]
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
    by_sweep.accumulate_scores(Sweep(picture, [WSOLEVAL_V1]).scores(WSOLEVAL_V1, frame, truth), frame, label=0)
    np.testing.assert_array_equal(by_map.compute().gt_known, by_sweep.compute().gt_known)
    with pytest.raises(ValueError, match="scores at 1 thresholds for 1000"):
        by_sweep.accumulate_scores(Sweep(picture, [AT_HALF]).scores(AT_HALF, frame, truth), frame, label=0)


def test_a_sweep_refuses_what_is_no_map():
    with pytest.raises(ValueError, match="holds NaN"):
        Sweep(np.full((4, 4), np.nan), [WSOLEVAL_V1])


def test_ranks_are_dense():
    ranks, places = component_tree.dense(np.array([[7, 3, 3], [9, 7, 3]], np.int32))
    assert ranks.tolist() == [[2, 1, 1], [3, 2, 1]]
    assert places.tolist() == [5, 4, 3]


def test_protocols_share_what_their_cuts_have_in_common():
    """One tree has the levels of four cuts; only two kinds of regions were looked for."""
    picture = min_max(cv2.GaussianBlur(np.random.default_rng(0).random((30, 30)), (0, 0), 2))
    frame, truth = Frame.squash((30, 30), 30), np.array([[3.0, 3, 20, 20]])
    together = Sweep(picture, list(PROTOCOLS.values()))
    for name in ("bas", "grcam", "spol", "adl", "wsoleval-v1"):
        alone = Sweep(picture, [PROTOCOLS[name]]).scores(PROTOCOLS[name], frame, truth)
        np.testing.assert_array_equal(together.scores(PROTOCOLS[name], frame, truth).iou, alone.iou)
    assert set(together._found) == {"largest-component", "largest-contour"}


@pytest.mark.parametrize("cut", CUTS)
def test_no_cut_puts_a_greater_value_under_a_smaller_one(cut):
    """What merging cuts rests on."""
    surface, _ = cutting(np.linspace(0, 1, 5000)[None], cut)
    assert (np.diff(surface.astype(np.float64)) >= 0).all()


def test_few_maps_are_not_worth_the_start():
    assert not is_worth_it(10)
    assert is_worth_it(100)


def test_a_clamped_box_ends_within_the_frame():
    picture = np.ones((5, 8))
    frame, truth = Frame.squash((8, 5), 8), np.array([[0.0, 0, 8, 5]])
    frame = Frame((8, 5), (8, 5), (0, 0, 8, 5))
    clamped = AT_HALF.extractor.boxes(picture, [0.5])
    assert clamped[0].tolist() == [[0, 0, 7, 4]]
    expected = score_boxes(WSOLEVAL_V1, clamped, frame, truth)
    assert Sweep(picture, [AT_HALF]).scores(AT_HALF, frame, truth).iou == expected.iou


@pytest.mark.parametrize(("factor", "least"), [(2, -3.0), (1.5, 0.0), (1.5, -0.5)])
def test_a_sweep_stretches_where_the_protocol_does(factor, least):
    picture, frame, truth = np.zeros((224, 224)), Frame.squash((224, 224)), np.array([[60.0, 60, 160, 160]])
    picture[60:160, 60:160] = 1.0
    grcam = replace(PROTOCOLS["grcam"], sweep=(0.5,))
    sweep = Sweep(picture * factor + least, [grcam, AT_HALF])
    np.testing.assert_array_equal(sweep.scores(grcam, frame, truth).iou, [1.0])
    with pytest.raises(ValueError, match=rf"leaves \[0, 1\]: least {least}, greatest {least + factor}"):
        sweep.scores(AT_HALF, frame, truth)


def test_scores_keep_the_truth_and_no_boxes():
    """The truth is in pixels of the frame; where none is left in it, nothing is compared and nothing is counted."""
    spol = replace(PROTOCOLS["spol"], sweep=(0.2, 0.5))
    picture, frame = np.ones((224, 224), np.float32), Frame.centre_crop((512, 256))
    sweep = Sweep(picture, [spol])
    scores = sweep.scores(spol, frame, np.array([[32.0, 16, 480, 240]]))
    assert (scores.ground_truth.tolist(), scores.boxes) == ([[0, 0, 224, 224]], [])
    assert (scores.iou.tolist(), scores.counted.tolist()) == ([1, 1], [True, True])
    scores = sweep.scores(spol, frame, np.array([[0.0, 0, 9, 9]]))
    assert (scores.ground_truth.shape, scores.boxes) == ((0, 4), [])
    assert (scores.iou.tolist(), scores.counted.tolist(), scores.counted.dtype) == ([0, 0], [False, False], bool)
