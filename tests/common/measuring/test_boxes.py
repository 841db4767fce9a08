import numpy as np
import pytest

from common.measuring.boxes import (
    IOU_CONVENTIONS,
    aligned_iou,
    as_boxes,
    from_x0x1y0y1,
    from_xywh,
    pairwise_iou,
    to_x0x1y0y1,
)


def pair_by_pair(boxes_a, boxes_b, convention):
    return np.array([pairwise_iou(a, b, convention)[0, 0] for a, b in zip(boxes_a, boxes_b, strict=True)])


def test_iou_by_hand():
    # Two squares of side 10 that share a 5 x 10 strip: 50 / 150. With one added to each side: 6*11 / (2*121 - 66).
    a, b = [0, 0, 10, 10], [5, 0, 15, 10]
    assert pairwise_iou(a, b, "continuous")[0, 0] == pytest.approx(1 / 3, abs=1e-12)
    assert pairwise_iou(a, b, "inclusive")[0, 0] == pytest.approx(66 / 176, abs=1e-15)


def test_touching_boxes_overlap_only_when_coordinates_are_pixels():
    a, b = [0, 0, 10, 10], [10, 0, 20, 10]
    assert pairwise_iou(a, b, "continuous")[0, 0] == 0
    assert pairwise_iou(a, b, "inclusive")[0, 0] == pytest.approx(11 / (121 + 121 - 11))


@pytest.mark.parametrize("convention", IOU_CONVENTIONS)
def test_every_pair_is_compared(convention):
    a = np.array([[0, 0, 4, 4], [2, 2, 8, 8], [20, 20, 30, 30]], float)
    b = np.array([[0, 0, 4, 4], [100, 100, 110, 110]], float)
    table = pairwise_iou(a, b, convention)
    assert table.shape == (3, 2)
    assert table[0, 0] == pytest.approx(1)
    assert table[:, 1].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(pairwise_iou(b, a, convention), table.T)


def test_a_line_is_a_box_of_pixels_but_no_proper_box():
    line = [5, 5, 5, 9]
    assert pairwise_iou(line, line, "inclusive")[0, 0] == 1
    assert pairwise_iou(line, line, "inclusive-proper")[0, 0] == 0
    assert pairwise_iou(line, line, "continuous")[0, 0] == 0


def test_each_box_is_proper_or_not_by_itself():
    square, line, flat = [0, 0, 10, 10], [5, 0, 5, 10], [0, 5, 10, 5]
    table = pairwise_iou([square, line, flat], [square, line, flat], "inclusive-proper")
    assert table.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_boxes_that_lie_at_the_same_place_are_compared():
    """Lengths unless told otherwise: 50 / 150, and the box with itself."""
    found = aligned_iou([[0, 0, 10, 10], [2, 2, 8, 8]], [[5, 0, 15, 10], [2, 2, 8, 8]])
    assert found.tolist() == pytest.approx([1 / 3, 1], abs=1e-12)


def test_a_union_that_is_not_positive_gives_zero():
    """`1 1 0 0` has sides of 0 pixels, `0 0 -3 5` has -2 x 6: unions of 0, -12 and -24; many pairs, so that what is
    not written is seen.
    """
    empty, inside_out = [1, 1, 0, 0], [0, 0, -3, 5]
    boxes = np.array([empty, inside_out] * 400)
    assert np.abs(aligned_iou(boxes, boxes, "inclusive")).tolist() == [0] * 800
    assert np.abs(aligned_iou(boxes, boxes[::-1], "inclusive")).tolist() == [0] * 800


@pytest.mark.parametrize("convention", IOU_CONVENTIONS)
def test_small_whole_numbers_do_not_wrap_around(convention):
    """As int8, a side of 200 pixels would be one of -56."""
    boxes = np.array([[-100, -100, 100, 100], [0, 0, 100, 100], [9, 9, 0, 0], [20, 20, 30, 30]])
    expected = pairwise_iou(boxes, boxes, convention)
    small = boxes.astype(np.int8)
    for a, b in ((small, boxes), (boxes, small)):
        np.testing.assert_array_equal(aligned_iou(a[:, None], b[None], convention), expected)
    assert from_xywh(np.array([[200, 0, 100, 5]], np.uint8)).tolist() == [[200, 0, 300, 5]]


@pytest.mark.parametrize(("file", "convention", "criterion"), [
    ("bas/metrics", "inclusive", "correct_strict"),
    ("spol/iou", "continuous", "hit"),
    ("grcam/iou", "inclusive-proper", "correct_ge_half"),
])  # fmt: skip
def test_recorded_iou(golden, file, convention, criterion):
    arrays = golden(file)
    names = {"bas/metrics": ("box_a", "box_b"), "spol/iou": ("a", "b"), "grcam/iou": ("pred", "gt")}[file]
    a, b = (from_x0x1y0y1(arrays[name]) if "grcam" in file else arrays[name] for name in names)
    found = pair_by_pair(a, b, convention)
    np.testing.assert_array_equal(found, arrays["iou"])
    np.testing.assert_array_equal(found >= 0.5 if criterion == "correct_ge_half" else found > 0.5, arrays[criterion])


def test_recorded_iou_of_dgl_and_adl(golden):
    arrays = golden("dgl/iou")
    a, b = arrays["box_a_xyxy"], arrays["box_b_xyxy"]
    np.testing.assert_array_equal(pair_by_pair(a, b, "inclusive-proper"), arrays["iou_grcam"])
    np.testing.assert_array_equal(pair_by_pair(a, b, "inclusive"), arrays["iou_adl"])


def test_recorded_best_of_several_ground_truths(golden):
    arrays = golden("grcam/iou")
    best = [
        pairwise_iou(from_x0x1y0y1(predicted), from_x0x1y0y1(truths), "inclusive-proper").max()
        for predicted, truths in zip(arrays["multi_pred"], arrays["multi_gt"], strict=True)
    ]
    np.testing.assert_array_equal(best, arrays["multi_iou"])


def test_layouts():
    np.testing.assert_array_equal(from_xywh([60, 27, 325, 304]), [[60, 27, 385, 331]])
    np.testing.assert_array_equal(from_x0x1y0y1([1, 3, 2, 4]), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(to_x0x1y0y1([1, 2, 3, 4]), [[1, 3, 2, 4]])
    assert as_boxes([]).shape == (0, 4)
    assert pairwise_iou([], [0, 0, 1, 1]).shape == (0, 1)


def test_refusals():
    expected = "unknown IoU convention 'exclusive', expected one of continuous, inclusive, inclusive-proper"
    with pytest.raises(ValueError, match=expected):
        pairwise_iou([0, 0, 1, 1], [0, 0, 1, 1], "exclusive")
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        as_boxes(np.zeros((2, 3)))
