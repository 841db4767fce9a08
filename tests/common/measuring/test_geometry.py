import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.measuring.boxes import from_x0x1y0y1, to_x0x1y0y1
from common.measuring.geometry import (
    Frame,
    clip_and_drop_empty,
    clip_one_sided,
    clip_one_sided_to_pixels,
    frame_kinds,
    map_in_frame,
    round_half_even,
    seen_kind,
    truncate,
    truncate_product,
)
from common.system.errors import UserError

sides = st.integers(1, 5000)
coordinates = st.floats(-1e4, 1e4, allow_nan=False)


@st.composite
def frames(draw):
    original, resized = draw(st.tuples(sides, sides)), draw(st.tuples(sides, sides))
    x, y = draw(st.integers(0, resized[0] - 1)), draw(st.integers(0, resized[1] - 1))
    width, height = draw(st.integers(1, resized[0] - x)), draw(st.integers(1, resized[1] - y))
    return Frame(original, resized, (x, y, width, height))


@pytest.mark.slow
@given(frames(), st.lists(st.tuples(*[coordinates] * 4), min_size=1, max_size=5))
def test_boxes_go_to_the_frame_and_back(frame, boxes):
    boxes = np.array(boxes)
    # The way there loses up to an ulp of the larger of box and crop offset, enlarged on the way back.
    scale = 1e-11 * (np.abs(boxes).max() + max(frame.original) + 1) * max(frame.resized)
    np.testing.assert_allclose(frame.to_original(frame.to_frame(boxes)), boxes, atol=scale)
    np.testing.assert_allclose(frame.to_frame(frame.to_original(boxes)), boxes, atol=scale * max(frame.resized))


@given(frames(), st.tuples(*[coordinates] * 4))
def test_clipped_boxes_lie_in_the_frame(frame, box):
    clipped = frame.clip(np.array([box]))[0]
    assert (clipped >= 0).all()
    assert (clipped <= [*frame.size, *frame.size]).all()


@given(frames())
def test_json_and_back(frame):
    assert Frame.from_json(json.loads(json.dumps(frame.to_json()))) == frame


@given(st.tuples(sides, sides), sides)
def test_the_whole_image_is_the_whole_squashed_frame(original, side):
    frame = Frame.squash(original, side)
    np.testing.assert_allclose(frame.to_frame([0, 0, *original]), [[0, 0, side, side]], rtol=1e-12)


def test_centre_crop_by_hand():
    # 500 x 400 to 256 x 256, then 16 off each side: x 250 -> 128 - 16, y 100 -> 64 - 16.
    frame = Frame.centre_crop((500, 400))
    np.testing.assert_allclose(frame.to_frame([250, 100, 500, 400]), [[112, 48, 240, 240]])
    assert (frame.size, frame.kind) == ((224, 224), "resize 256 crop 224")


def test_an_odd_margin_is_cut_one_pixel_nearer_to_the_start():
    assert Frame.centre_crop((500, 400), 257, 224).crop == (16, 16, 224, 224)


@pytest.mark.parametrize("kind", ["resize 224", "resize 324", "resize 256 crop 224", "resize 180 crop 160"])
def test_kind_and_back(kind):
    assert Frame.of_kind(kind, (640, 480)).kind == kind


@pytest.mark.parametrize("kind", ["", "crop 224", "resize 224 ", "resize -1", "resize 256 crop"])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(ValueError, match="unknown frame"):
        Frame.of_kind(kind, (640, 480))


def test_kinds_of_frames_that_are_not_square():
    assert Frame((10, 10), (8, 4), (0, 0, 8, 4)).kind == "resize 8x4"
    assert Frame((10, 10), (8, 4), (2, 1, 4, 3)).kind == "resize 8x4 crop 4x3"


@pytest.mark.parametrize(("original", "resized", "crop"), [
    ((0, 5), (4, 4), (0, 0, 4, 4)), ((5, 0), (4, 4), (0, 0, 4, 4)), ((5, 5), (0, 4), (0, 0, 4, 4)),
    ((5, 5), (4, 0), (0, 0, 4, 4)), ((5, 5), (4, 4), (0, 0, 0, 4)), ((5, 5), (4, 4), (0, 0, 4, 0)),
])  # fmt: skip
def test_a_side_without_a_pixel_is_refused(original, resized, crop):
    with pytest.raises(ValueError, match="a frame needs sides of at least one pixel"):
        Frame(original, resized, crop)
    assert Frame((1, 1), (1, 1), (0, 0, 1, 1)).size == (1, 1)


@pytest.mark.parametrize(("original", "resized"), [
    ([1_000_001, 1], [1, 1]), ([1, 1_000_001], [1, 1]), ([1, 1], [8193, 1]), ([1, 1], [1, 8193]),
])  # fmt: skip
def test_frames_too_large_to_be_meant_are_refused(original, resized):
    expected = f"the frame is too large: {tuple(original)} resized to {tuple(resized)}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        Frame.from_json({"original": original, "resized": resized, "crop": [0, 0, 1, 1]})
    largest = {"original": [1_000_000, 1_000_000], "resized": [8192, 8192], "crop": [0, 0, 1, 1]}
    assert Frame.from_json(largest).to_json() == largest


@pytest.mark.parametrize("crop", [[-1, 0, 4, 3], [0, -1, 4, 3], [5, 0, 4, 3], [0, 4, 4, 3], [0, 0, 9, 6], [0, 0, 8, 7]])
def test_crops_that_leave_the_image_are_refused(crop):
    with pytest.raises(ValueError, match=re.escape(f"the crop {crop} leaves the image, resized to [8, 6]")):
        Frame.from_json({"original": [5, 5], "resized": [8, 6], "crop": crop})
    fits = {"original": [5, 5], "resized": [8, 6], "crop": [4, 3, 4, 3]}
    assert Frame.from_json(fits).to_json() == fits


@pytest.mark.parametrize("fields", [None, {}, {"original": [1, 2], "resized": [1, 2], "crop": [0, 0, 1]},
                                    {"original": [1, 2.5], "resized": [1, 2], "crop": [0, 0, 1, 1]},
                                    {"original": [0, 5], "resized": [1, 2], "crop": [0, 0, 1, 1]},
                                    {"original": [True, 5], "resized": [1, 2], "crop": [0, 0, 1, 1]}])  # fmt: skip
def test_broken_json_is_refused(fields):
    with pytest.raises(ValueError, match="frame"):
        Frame.from_json(fields)


@pytest.mark.parametrize(("rule", "name"), [
    (clip_one_sided, "eval_CUB"), (clip_one_sided, "eval_ILSVRC"), (clip_one_sided, "loader_CUB"),
    (clip_one_sided_to_pixels, "loader_EXTCUB"), (clip_one_sided_to_pixels, "loader_EXTILSVRC"),
])  # fmt: skip
def test_recorded_ground_truth_of_bas(golden, rule, name):
    arrays = golden("bas/gt_boxes")
    found = [
        rule(box, Frame.centre_crop(tuple(size)))[0]
        for size, box in zip(arrays["sizes_wh"].tolist(), arrays["gt_xyxy"], strict=True)
    ]
    np.testing.assert_allclose(found, arrays[name], rtol=0, atol=1e-9)


def test_recorded_ground_truth_of_spol(golden):
    arrays = golden("spol/gtbox")
    kept = 0
    for case, expected, status in zip(arrays["cases"], arrays["crop_box"], arrays["status"], strict=True):
        found = clip_and_drop_empty(case[2:], Frame.centre_crop((int(case[0]), int(case[1]))))
        if status == 1:
            np.testing.assert_allclose(found, [expected], atol=1e-6)
            kept += 1
        else:  # the original drops some and stops with an error at others; both are dropped, and counted, here
            assert len(found) == 0
    assert 0 < kept < len(arrays["status"])


def test_spol_cuts_at_the_images_last_pixel():
    """10 x 10 pixels doubled: what reaches beyond ends at pixel 9, so at 18; a box of no height is dropped."""
    frame = Frame.squash((10, 10), 20)
    boxes = np.array([[-3.0, -2, 12, 15], [0, 1, 9, 9.5], [2, 5, 6, 5], [5, 2, 5, 6]])
    assert clip_and_drop_empty(boxes, frame).tolist() == [[0, 0, 18, 18], [0, 2, 18, 18]]


def test_rounding_comes_before_the_crop():
    """12.5 of 100 pixels is 32 of 256, and 12.7 is 32.512, 33 when rounded."""
    frame = Frame.centre_crop((100, 100))
    assert round_half_even(np.array([12.5, 12.7, 50, 75]), frame).tolist() == [[16, 17, 112, 176]]


def test_recorded_ground_truth_of_grcam(golden):
    arrays = golden("grcam/gtbox")
    found = [
        to_x0x1y0y1(round_half_even(from_x0x1y0y1(box), Frame.squash((int(width), int(height)))))[0]
        for (width, height), box in zip(arrays["width_height"], arrays["box_in"], strict=True)
    ]
    np.testing.assert_array_equal(found, arrays["box_out"])


def test_a_box_outside_the_crop_turns_inside_out_and_stays():
    frame = Frame.centre_crop((256, 256))
    (box,) = clip_one_sided(np.array([0.0, 100, 10, 200]), frame)
    assert box.tolist() == [0, 84, -6, 184]
    assert len(clip_and_drop_empty(np.array([0.0, 100, 10, 200]), frame)) == 0


def test_truncation_goes_towards_zero():
    assert truncate(np.array([0.0, 30, 100, 200]), Frame.centre_crop((256, 256)))[0].tolist() == [-16, 14, 84, 184]
    assert truncate(np.array([1.0, 1, 2, 2]), Frame.squash((3, 3), 4))[0].tolist() == [1, 1, 2, 2]


def test_adls_boxes_are_moved_as_tensorpack_moves_them(golden):
    """Equal to the last digit: corners times (F + 32) / side, less 16; of 103 pixels the last is 239.99 of 256."""
    arrays = golden("dgl/dataflow")
    side = int(arrays["size"]) + 32
    for number in range(3):
        height, width = arrays[f"img{number}_bgr"].shape[:2]
        box, moved = (arrays[f"img{number}_{name}"].ravel() for name in ("box", "val_box"))
        frame = Frame((width, height), (side, side), (16, 16, side - 32, side - 32))
        assert truncate_product(box, frame)[0].tolist() == np.trunc(moved).tolist()
    whole, frame = np.array([0.0, 0, 103, 103]), Frame.centre_crop((103, 103))
    assert truncate_product(whole, frame)[0].tolist() == [-16, -16, int(103 * (256.0 / 103) - 16), 239]
    assert truncate(whole, frame)[0].tolist() == [-16, -16, 240, 240]


def test_frames_by_name():
    assert frame_kinds(["squash"]) == ["resize 224"]
    assert frame_kinds(["squash", "crop"], least="crop") == ["resize 224", "resize 256 crop 224"]


@pytest.mark.parametrize(("names", "least", "message"), [
    ([], None, "--frames ; expected crop, squash or both"),
    (["crop", "crop"], None, "--frames crop crop; expected crop, squash or both"),
    (["squash"], "crop", "--frames squash; expected crop, or both"),
    (["crop", "crop"], "crop", "--frames crop crop; expected crop, or both"),
])  # fmt: skip
def test_frames_that_are_refused(names, least, message):
    with pytest.raises(UserError) as raised:
        frame_kinds(names, least)
    assert str(raised.value) == message


def test_a_map_is_brought_to_a_frame():
    """By hand: bilinear halves of [0, 1]; of a map of the whole image the crop alone; the map's own type."""
    halves = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    squashed = map_in_frame(halves, Frame.squash((9, 5), 4), "frame")
    assert squashed.tolist() == [[0, 0.25, 0.75, 1]] * 4
    assert squashed.dtype == np.float32
    cropped = Frame.centre_crop((9, 5), 8, 4)
    assert map_in_frame(halves, cropped, "frame").tolist() == [[0, 0.25, 0.75, 1]] * 4
    whole = np.arange(64.0).reshape(8, 8)
    found = map_in_frame(whole, cropped, "image")
    assert found.tolist() == whole[2:6, 2:6].tolist()
    assert found.dtype == np.float64


def test_a_map_that_lies_on_its_side_is_refused():
    with pytest.raises(ValueError, match="^5 x 9 for an image of 9 x 5: transposed$"):
        map_in_frame(np.zeros((9, 5)), Frame.squash((9, 5), 4), "image")
    for shape in ((5, 9), (9, 9)):  # (height, width)
        assert map_in_frame(np.zeros(shape), Frame.squash(shape[::-1], 4), "image").shape == (4, 4)


def test_what_a_network_of_another_side_sees():
    assert seen_kind("resize 256 crop 224", 96) == "resize 110 crop 96"
    assert seen_kind("resize 224", 128) == "resize 128"
