import numpy as np
import pytest

import wsol
from common.system.errors import UserError

HOT = np.zeros((224, 224), np.float32)
HOT[56:168, 56:168] = 1
TRUTH = [[100, 75, 300, 225]]
"""The same square on an image of 400 x 300."""


def test_by_hand():
    # Of two images one box is right, and the other overlaps a truth of the left half: 56..168 of 0..112 is 1/3.
    result = wsol.score([HOT, HOT], [(400, 300)] * 2, [TRUTH, [[0, 75, 200, 225]]], [0, 1], "wsoleval-v2")
    assert result.at(result.best())["gt_known"] == pytest.approx((100 + 50 + 50) / 3)
    assert str(result).startswith("wsoleval-v2: GT-known 66.67 % of 2 images")


def test_maps_of_another_size_are_brought_to_the_frame():
    assert wsol.score([HOT[::4, ::4]], [(400, 300)], [TRUTH], [0], "wsoleval-v1").max_box_acc == 100


def test_maps_are_scored_in_the_precision_that_files_of_them_are():
    """Half precision as single, in which 0.3 is above 0.3; double precision stays, also where a map is resized."""
    half = np.where(HOT > 0, np.float16(0.3), np.float16(0))
    double = np.where(HOT[::4, ::4] > 0, np.float64(np.float32(0.3)), 0.0)
    for maps, expected in ((half, 100), (half.astype(np.float32), 100), (double, 100), (double.astype(np.float32), 0)):
        result = wsol.score([maps], [(400, 300)], [TRUTH], [0], "bas", shows="frame")
        assert (result.gt_known[0, result.nearest(0.3)] == expected).all(), maps.dtype


def test_classes_count_where_they_are_given():
    result = wsol.score([HOT, HOT], [(400, 300)] * 2, [TRUTH] * 2, [3, 4], "dgl", top5=[[3, 1], [1, 4]])
    found = result.at(result.best())
    assert (found["top1"], found["top5"], found["gt_known"]) == (50, 100, 100)


def test_a_protocol_of_the_crop_is_told_what_the_maps_show():
    whole = np.zeros((300, 400), np.float32)
    whole[75:225, 100:300] = 1
    measure = {"sizes": [(400, 300)], "boxes": [TRUTH], "labels": [0], "protocol": "bas"}
    with pytest.raises(UserError, match=r"map 0: 400 x 300 like its image, .* in a crop: say shows='image'"):
        wsol.score([whole], **measure)
    with pytest.raises(UserError, match="map 0: 256 x 256 like its image before the crop, while .*: say shows='image'"):
        wsol.score([np.zeros((256, 256), np.float32)], **measure)
    of_image = wsol.score([whole], **measure, shows="image")
    by_hand = np.zeros((224, 224), np.float32)
    by_hand[48:176, 48:176] = 1  # a quarter to three quarters of 256, less 16
    for threshold in (0.3, 0.9):
        (index,) = of_image.nearest(threshold)
        assert of_image.gt_known[0, index] == wsol.score([by_hand], **measure).gt_known[0, index] == 100


def test_images_without_a_box_give_no_figure_and_no_nan():
    result = wsol.score([HOT], [(400, 300)], [[]], [0], "wsoleval-v2")
    assert str(result) == "wsoleval-v2: no figure, for none of 1 images has a box to be measured by"


def test_the_number_of_images_is_that_of_the_denominator():
    """SPOL's protocol leaves out the images in whose map no region is found."""
    measure = {"sizes": [(400, 300)] * 3, "boxes": [TRUTH] * 3, "labels": [0] * 3, "protocol": "spol"}
    whole = np.zeros((300, 400), np.float32)
    whole[75:225, 100:300] = 1
    result = wsol.score([whole, 0 * whole, 0 * whole], **measure, shows="image")
    assert str(result).startswith("spol: GT-known 100.00 % of 1 images, 2 left out")
    nothing = wsol.score([0 * whole] * 3, **measure, shows="image")
    assert str(nothing) == "spol: no figure, for none of 3 images has a box to be measured by"


def test_tensors_of_any_kind_are_maps():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(HOT).requires_grad_()
    measure = {"sizes": [(400, 300)], "boxes": [TRUTH], "labels": [0], "protocol": "wsoleval-v1"}
    for maps in ([tensor], [tensor.bfloat16()], [tensor.half()], tensor[None]):
        assert wsol.score(maps, **measure).max_box_acc == 100


@pytest.mark.parametrize(("changes", "message"), [
    ({"top5": [[]]}, r"best classes \[\] of image 0; expected five different classes"),
    ({"top5": [[1, 1, 0]]}, r"best classes \[1, 1, 0\] of image 0; expected five different classes"),
    ({"shows": "whole"}, "shows 'whole'; expected frame or image"),
    ({"protocol": "pascal"}, "unknown protocol 'pascal'; expected one of bas"),
    ({"labels": [0, 1]}, "1 maps, 1 sizes, 1 boxes, 2 labels; expected as many of each"),
    ({"maps": [2 * HOT]}, r"map 0: the localization map leaves \[0, 1\]"),
    ({"boxes": [[[0, 0, 500, 10]]]}, "in pixels of 400 x 300"),
    ({"boxes": [[[20, 0, 10, 10]]]}, "expected x0 < x1"),
    ({"maps": [np.zeros((400, 300), np.float32)]}, "map 0: 300 x 400 for an image of 400 x 300: transposed"),
    ({"labels": [-1]}, "class -1 of image 0; expected a whole number from 0 on"),
    ({"labels": [0.5]}, "class 0.5 of image 0"),
    ({"labels": ["albatross"]}, "class 'albatross' of image 0"),
    ({"top5": [[0, -2]]}, "class -2 of image 0"),
    ({"top5": [0]}, "best classes 0 of image 0; expected a list of five"),
    ({"maps": iter([HOT])}, "maps of the kind list_iterator; expected a list"),
    ({"sizes": [(300, 400, 3)]}, r"size \(300, 400, 3\) of image 0; expected width and height"),
    ({"sizes": [(400.5, 300)]}, "size .* in whole pixels"),
    ({"sizes": [(0, 0)]}, r"size \(0, 0\) of image 0"),
    ({"boxes": [[[0.25, 0.25, 0.75, 0.75]]]}, "are shares of it; expected pixels. Multiply x by 400 and y by 300"),
    ({"boxes": [[[1, 2, 3]]]}, "no rows of four numbers"),
    ({"boxes": [[[10, 20], [30, 40], [110, 120], [130, 140]]]}, r"no rows of four numbers \(shape \(4, 2\)\)"),
])  # fmt: skip
def test_refusals(changes, message):
    arguments = {"maps": [HOT], "sizes": [(400, 300)], "boxes": [TRUTH], "labels": [0], **changes}
    with pytest.raises(UserError, match=message):
        wsol.score(**arguments)


def test_classes_of_other_numbers_are_said(capsys):
    labels = [number % 4 + 1 for number in range(12)]
    measure = {"maps": [HOT] * 12, "sizes": [(400, 300)] * 12, "boxes": [TRUTH] * 12, "labels": labels}
    wsol.score(**measure, top5=[[label, 0] for label in labels])
    assert capsys.readouterr().err == ""
    wsol.score(**measure, top5=[[label - 1] for label in labels])
    assert (
        "note: the best class is right for 0% of the images, and would be for 100% if labels" in capsys.readouterr().err
    )
