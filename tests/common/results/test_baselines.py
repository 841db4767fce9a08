import numpy as np
import pytest

from common.measuring.geometry import Frame
from common.measuring.protocols import SPOL, WSOLEVAL_V1, WSOLEVAL_V2
from common.results.baselines import CENTRED_SIDES, centred_boxes, trivial_baselines
from common.results.intervals import Resampling

SQUARE = Frame.squash((224, 224))


class Still:
    """What a baseline needs of a sample: it never looks at the image."""

    def __init__(self, box, size=(224, 224), image_id="a"):
        self.size, self.boxes, self.label, self.image_id = size, np.array([box], float), 0, image_id


def test_trivial_baselines_by_hand():
    # One truth is the central half, one nearly all. The whole frame hits the second alone; a box of side s hits the
    # first while (0.5 / s)^2 reaches one half, up to 0.707, and the second from (s / 0.96)^2 = 0.5 on, 0.68.
    samples = [Still([56, 56, 168, 168]), Still([4, 4, 220, 220])]
    found = trivial_baselines(WSOLEVAL_V1, samples)
    assert (found.whole_image, found.centred_box, found.centred_side, found.images) == (50, 100, 0.7, 2)
    assert found.whole_interval == pytest.approx((9.4531, 90.5469), abs=1e-4)  # Wilson's, of 1 in 2
    assert [box.tolist() for box in centred_boxes(SQUARE, (0.5, 1.0))] == [
        [[56, 56, 168, 168]],
        [[0, 0, 224, 224]],
    ]
    assert list(CENTRED_SIDES) == [k / 20 for k in range(1, 21)]
    # 159 of 224 wide and high are 160^2 / 225^2 = 0.506 of the whole, and 160^2 / 213.8^2 of a box of side 0.95; one
    # of 158 is under a half of the whole, at 0.4994.
    for side, expected in ((159, 100), (158, 0)):
        assert trivial_baselines(WSOLEVAL_V1, [Still([32, 32, 32 + side, 32 + side])]).whole_image == expected


def test_the_whole_frame_has_its_own_interval():
    """26,100 of 50,625 pixels; a centred box of side 0.95 misses. Wilson's lower end of n hits in n is n / (n + 1.96^2)."""
    found = trivial_baselines(WSOLEVAL_V1, [Still([0, 0, 224, 115])])
    assert (found.whole_image, found.centred_side, found.images) == (100, 1.0, 1)
    for interval in (found.whole_interval, found.centred_interval):
        assert interval == pytest.approx((100 / (1 + 1.959964**2), 100))


def test_means_over_criteria_have_an_interval_where_images_are_drawn_anew():
    samples = [Still([56, 56, 168, 168]), Still([4, 4, 220, 220])]
    for resamples in (0, 20):
        found = trivial_baselines(WSOLEVAL_V2, samples, how=Resampling(resamples))
        intervals = (found.whole_interval, found.centred_interval)
        assert [interval is None for interval in intervals] == [resamples == 0] * 2


def test_trivial_baselines_leave_out_what_the_protocol_leaves_out():
    """The crop's left upper corner ends at 16; an image whose box lies outside counts only where it is asked for."""
    hit, outside = Still([16, 16, 240, 240], (256, 256)), Still([0, 0, 9, 9], (256, 256))
    found = trivial_baselines(SPOL, [hit, outside])
    assert (found.whole_image, found.images) == (100, 1)
    assert found.left_out == {"no ground-truth box left in the frame": 1}
    assert trivial_baselines(SPOL, [hit, outside], count_missing=True).images == 2
    assert trivial_baselines(SPOL, [hit, outside], count_missing=True).whole_image == 50
    by_name = Still([16, 16, 20, 20], (256, 256), f"val/{SPOL.left_out[0]}")
    assert trivial_baselines(SPOL, [hit, by_name]).whole_image == 100
