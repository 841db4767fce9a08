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


def test_classes_count_where_they_are_given():
    result = wsol.score([HOT, HOT], [(400, 300)] * 2, [TRUTH] * 2, [3, 4], "dgl", top5=[[3, 1], [1, 4]])
    found = result.at(result.best())
    assert (found["top1"], found["top5"], found["gt_known"]) == (50, 100, 100)


@pytest.mark.parametrize(("changes", "message"), [
    ({"protocol": "pascal"}, "unknown protocol 'pascal'; expected one of bas"),
    ({"labels": [0, 1]}, "1 maps, 1 sizes, 1 boxes, 2 labels; expected as many of each"),
    ({"maps": [2 * HOT]}, r"map 0: the localization map leaves \[0, 1\]"),
    ({"boxes": [[[0, 0, 500, 10]]]}, "in pixels of 400 x 300"),
    ({"boxes": [[[20, 0, 10, 10]]]}, "expected x0 < x1"),
])  # fmt: skip
def test_refusals(changes, message):
    arguments = {"maps": [HOT], "sizes": [(400, 300)], "boxes": [TRUTH], "labels": [0], **changes}
    with pytest.raises(UserError, match=message):
        wsol.score(**arguments)
