import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.measuring.boxes import from_x0x1y0y1
from common.measuring.extraction import (
    CUTS,
    ENDS,
    REGIONS,
    Extractor,
    check_map,
    cutting,
    every_contour,
    largest_component,
    largest_contour,
    min_max,
)

VALUE = Extractor("value", "largest-component", "exclusive")


def first_box(boxes, missing):
    return boxes[0].tolist() if len(boxes) else list(missing)


def two_blobs():
    """A 4 x 10 bar of 0.6 and a 6 x 6 square of 0.9."""
    picture = np.zeros((40, 50), np.float32)
    picture[5:9, 10:20] = 0.6
    picture[20:26, 30:36] = 0.9
    return picture


def test_every_contour_becomes_the_largest_and_other_rules_stay():
    for cut, end in (("value", "exclusive"), ("grey", "clamped")):
        assert Extractor(cut, "every-contour", end).of_one_region() == Extractor(cut, "largest-contour", end)
    assert VALUE.of_one_region() == VALUE


def test_thresholds_are_of_the_maps_own_type():
    """0.1 in float32 lies above 0.1 in float64, and is not above the threshold 0.1."""
    surface, levels_of = cutting(np.full((2, 2), 0.1, np.float32), "value")
    assert levels_of([0.1]).dtype == np.float32
    assert not (surface > levels_of([0.1])).any()


def test_the_component_of_most_pixels_wins():
    picture = two_blobs()
    low, high, none = VALUE.boxes(picture, [0.5, 0.7, 0.9])
    assert low.tolist() == [[10, 5, 20, 9]]  # 40 pixels against 36
    assert high.tolist() == [[30, 20, 36, 26]]
    assert len(none) == 0  # above, not at, the threshold


def test_the_contour_of_largest_polygon_wins():
    # The polygons run through pixel centres: 9 x 3 = 27 for the bar, 5 x 5 = 25 for the square.
    bar_first = two_blobs()
    assert largest_contour((bar_first > 0).astype(np.uint8)).tolist() == [[10, 5, 20, 9]]
    thinner = bar_first.copy()
    thinner[8, 10:20] = 0  # 9 x 2 = 18, though 30 pixels
    assert largest_contour((thinner > 0).astype(np.uint8)).tolist() == [[30, 20, 36, 26]]


def test_components_touch_at_corners():
    mask = np.eye(5, dtype=np.uint8)
    assert largest_component(mask).tolist() == [[0, 0, 5, 5]]


def test_ties():
    mask = np.zeros((20, 20), np.uint8)
    mask[2:5, 2:5] = mask[10:13, 10:13] = 1
    assert largest_component(mask).tolist() == [[2, 2, 5, 5]]  # first in raster order
    assert largest_contour(mask).tolist() == [[10, 10, 13, 13]]  # first in OpenCV's list: the lowest


def labelled(mask):
    """Pixels of each 8-connected component, in raster order of their first pixels, by a flood fill."""
    left, components = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    for start in sorted(left):
        if start not in left:
            continue
        component, border = [], [start]
        left.remove(start)
        while border:
            y, x = border.pop()
            component.append((y, x))
            near = {(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            border += near
        components.append(component)
    return components


def test_the_first_of_equal_components_in_raster_order_wins():
    """Masks of scattered pixels, a third of them with a tie; numbered by blocks of 2 x 2, nine had another box."""
    rng = np.random.default_rng(0)
    ties = 0
    for _ in range(400):
        mask = (rng.uniform(size=rng.integers(6, 12, 2)) < rng.uniform(0.05, 0.25)).astype(np.uint8)
        mask[-1, -1] = 1
        components = labelled(mask)
        largest = max(components, key=len)
        ties += sum(len(component) == len(largest) for component in components) > 1
        pixels = np.array(largest)
        (y0, x0), (y1, x1) = pixels.min(axis=0), pixels.max(axis=0) + 1
        assert largest_component(mask).tolist() == [[x0, y0, x1, y1]]
    assert ties > 60


def test_every_contour_counts_the_borders_of_holes():
    mask = np.zeros((30, 30), np.uint8)
    mask[5:20, 5:20] = 1
    mask[9:14, 9:14] = 0
    assert sorted(every_contour(mask).tolist()) == [[5, 5, 20, 20], [8, 8, 15, 15]]


@pytest.mark.parametrize("region", REGIONS)
def test_one_pixel(region):
    picture = np.zeros((20, 30), np.float32)
    picture[19, 29] = 1.0
    exclusive, clamped = (Extractor("value", region, end).boxes(picture, [0.5])[0] for end in ENDS)
    assert exclusive.tolist() == [[29, 19, 30, 20]]
    assert clamped.tolist() == [[29, 19, 29, 19]]  # as released: the border swallows the pixel


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("region", REGIONS)
def test_nothing_is_above_an_all_zero_map(cut, region):
    (boxes,) = Extractor(cut, region, "exclusive").boxes(np.zeros((20, 20), np.float32), [0.0])
    assert boxes.shape == (0, 4)


def test_constant_maps():
    constant = np.full((20, 20), 0.37, np.float32)
    assert len(Extractor("stretched-grey", "largest-contour", "clamped").boxes(constant, [0.1])[0]) == 0
    assert Extractor("grey", "largest-contour", "exclusive").boxes(constant, [0.1])[0].tolist() == [[0, 0, 20, 20]]
    assert min_max(constant).tolist() == np.zeros((20, 20)).tolist()


def test_grey_is_truncated_before_it_is_compared():
    """0.5 is 127.5, so grey 127, which is not above 127 = int(0.5 * 255); as `value`, 0.501 is above 0.5."""
    picture = np.zeros((10, 20), np.float32)
    picture[2:5, 2:5], picture[6:9, 10:14] = 0.501, 1.0
    assert Extractor("grey", "every-contour", "exclusive").boxes(picture, [0.5])[0].tolist() == [[10, 6, 14, 9]]
    assert len(Extractor("value", "every-contour", "exclusive").boxes(picture, [0.5])[0]) == 2
    everything = Extractor("grey", "largest-contour", "exclusive").boxes(np.ones((4, 4)), [0.99])
    assert everything[0].tolist() == [[0, 0, 4, 4]]


@pytest.mark.parametrize("region", [largest_component, largest_contour, every_contour])
def test_boxes_are_floating_point_numbers(region):
    assert region(np.ones((4, 4), np.uint8)).dtype == np.float64
    assert region(np.zeros((4, 4), np.uint8)).dtype == np.float64


@pytest.mark.parametrize("bad", [
    np.full((4, 4), np.nan, np.float32), np.full((4, 4), 1.5), np.full((4, 4), -0.1), np.full((4, 4), np.inf),
    np.zeros((4, 4, 3)), np.zeros((0, 4)), np.zeros((4, 4), np.uint8), [[0.0, 1.0]],
])  # fmt: skip
def test_what_is_no_localization_map_is_refused(bad):
    with pytest.raises(ValueError, match="localization map"):
        VALUE.boxes(bad, [0.5])
    with pytest.raises(ValueError, match="localization map"):
        check_map(bad)


@pytest.mark.parametrize("cut", ["stretched-grey", "cubehelix-grey"])
def test_cuts_that_stretch_take_maps_of_any_values(cut):
    """A map and its double less 3 are stretched to the same one; not finite is refused as everywhere."""
    picture = np.zeros((8, 8))
    picture[2:5, 3:7], picture[3, 4] = 0.5, 1.0
    rule = Extractor(cut, "largest-contour", "exclusive")
    found = rule.boxes(picture * 2 - 3, [0.1, 0.6])
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(rule.boxes(picture, [0.1, 0.6])))
    assert found[0].tolist() == [[3, 2, 7, 5]]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="holds NaN or infinity"):
            rule.boxes(np.full((4, 4), bad), [0.5])


def test_a_refused_shape_is_named():
    with pytest.raises(ValueError, match=r"two-dimensional array, not one of shape \(4, 4, 3\)"):
        VALUE.boxes(np.zeros((4, 4, 3)), [0.5])


def test_stretching_refuses_nan():
    with pytest.raises(ValueError, match="^the map to be stretched holds NaN or infinity$"):
        min_max(np.array([[0.0, np.nan]]))


def test_stretching_asks_for_a_range_that_can_be_held():
    large = np.array([[2e38, 3e38]], np.float32)
    assert min_max(large).tolist() == [[0, 1]]
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="infinity"):
        min_max(large * np.array([-1, 1], np.float32))


def test_unknown_rules_are_refused():
    with pytest.raises(
        ValueError, match="unknown cut 'jet', expected one of value, grey, stretched-grey, cubehelix-grey"
    ):
        Extractor("jet", "largest-contour", "clamped")


def test_thresholds_compare_in_the_maps_own_precision():
    # float32(0.3) lies above 0.3, so a float32 map holding it is not above the threshold 0.3, as in numpy and torch.
    picture = np.full((4, 4), 0.3, np.float32)
    assert len(VALUE.boxes(picture, [0.3])[0]) == 0
    assert len(VALUE.boxes(picture.astype(np.float64), [0.3])[0]) == 1


@pytest.mark.parametrize("cut", CUTS)
def test_half_precision_is_widened_before_it_is_compared(cut):
    """As a map that is read from a file is: in half precision 254.97 is 255, and 0.3 is not above 0.3."""
    picture = np.arange(0, 15361, dtype=np.uint16).view(np.float16)[:15360].reshape(120, 128)  # all from 0 to 1
    extractor = Extractor(cut, "largest-component", "exclusive")
    thresholds = np.arange(0, 1, 0.01)
    half, whole = (extractor.boxes(each, thresholds) for each in (picture, picture.astype(np.float32)))
    assert [boxes.tolist() for boxes in half] == [boxes.tolist() for boxes in whole]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.floats(0, 1, width=32)),
    st.sampled_from(CUTS),
    st.sampled_from(REGIONS),
)
def test_sharing_equal_cuts_changes_nothing(picture, cut, region):
    extractor = Extractor(cut, region, "clamped")
    thresholds = np.linspace(0, 0.99, 40)
    together = extractor.boxes(picture, thresholds)
    alone = [extractor.boxes(picture, [threshold])[0] for threshold in thresholds]
    assert [boxes.tolist() for boxes in together] == [boxes.tolist() for boxes in alone]


def bas_pipeline(raw, canvas, extension):
    """BAS normalizes the 28 x 28 map, then enlarges it; its re-release adds 1e-5 to the divisor."""
    spread = raw.max() - raw.min()
    normal = (raw - raw.min()) / (spread + 1e-5) if extension else min_max(raw)
    return cv2.resize(normal, (canvas, canvas))


@pytest.mark.parametrize(("name", "extension"), [("boxes_cvpr", False), ("boxes_ext", True)])
def test_recorded_boxes_of_bas(golden, name, extension):
    arrays = golden("bas/boxes")
    for raw, expected in zip(arrays["maps"], arrays[name], strict=True):
        found = VALUE.boxes(bas_pipeline(raw, 224, extension), arrays["thresholds"])
        assert [first_box(boxes, (0, 0, 224, 224)) for boxes in found] == expected.tolist()


def test_recorded_boxes_of_bas_on_other_canvases(golden):
    arrays = golden("bas/boxes")
    for canvas, table in zip(arrays["canvas_sizes"].tolist(), arrays["boxes_canvas"], strict=True):
        for raw, expected in zip(arrays["maps"], table, strict=True):
            found = VALUE.boxes(bas_pipeline(raw, canvas, False), arrays["thresholds"][:3])
            assert [first_box(boxes, (0, 0, canvas, canvas)) for boxes in found] == expected.tolist()


def test_recorded_boxes_of_spol(golden):
    arrays = golden("spol/boxes")
    for packed, expected in zip(arrays["mask_packed"], arrays["box_xyxy"], strict=True):
        found = largest_contour(np.unpackbits(packed).reshape(224, 224))
        assert first_box(found, (-1, -1, -1, -1)) == expected.tolist()


def test_recorded_boxes_of_grcam(golden):
    arrays = golden("grcam/boxes_cam")
    extractor = Extractor("stretched-grey", "largest-contour", "clamped")
    for name, expected in zip(arrays["names"], arrays["boxes_x0x1y0y1"], strict=True):
        found = extractor.boxes(min_max(arrays[f"map_{name}"]), arrays["fraction"])
        assert [first_box(boxes, (0, 0, 0, 0)) for boxes in found] == from_x0x1y0y1(expected).tolist(), name


@pytest.mark.parametrize(("prefix", "extractor"), [
    ("box_", Extractor("stretched-grey", "largest-contour", "clamped")),
    ("adlbox_", Extractor("cubehelix-grey", "largest-contour", "exclusive")),
])  # fmt: skip
def test_recorded_boxes_of_dgl_and_adl(golden, prefix, extractor):
    arrays = golden("dgl/boxes")
    names = [name.removeprefix("map_") for name in arrays if name.startswith("map_")]
    compared = 0
    for name in names:
        found = extractor.boxes(min_max(arrays[f"map_{name}"]), arrays["thresholds"])
        for boxes, expected in zip(found, arrays[prefix + name], strict=True):
            if prefix == "adlbox_" and expected[0] == -1:
                continue  # not run in the original: a zero or constant map divides by zero there
            box = first_box(boxes, (0, 0, 0, 0))
            assert box == (from_x0x1y0y1(expected[:4])[0].tolist() if prefix == "box_" else expected.tolist()), name
            compared += 1
    assert compared >= 9 * (len(names) - 2)
