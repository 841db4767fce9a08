import numpy as np
import pytest

from common.measuring.plausible import doubts

SIZES = [(240, 180), (200, 300), (320, 240), (260, 220)]
BOXES = np.array([(0.2, 0.25, 0.8, 0.85), (0.3, 0.1, 0.9, 0.7), (0.1, 0.3, 0.8, 0.9), (0.25, 0.2, 0.75, 0.95)])
"""As shares of the image: their centres at 0.5125 and 0.53125 in the mean."""


def of(boxes, sizes=SIZES):
    return doubts([f"{number}.png" for number in range(len(sizes))], [box[None] for box in boxes], sizes)


def scaled(sizes):
    return BOXES * [(*size, *size) for size in sizes]


def test_boxes_in_pixels_of_their_images_are_not_doubted():
    assert of(scaled(SIZES)) == []


@pytest.mark.parametrize(("boxes", "said"), [
    (BOXES * 100, "4 images all lie within 0 to 100, though the images are larger, as boxes do that are given in percent"),
    (scaled([(100, 110)] * 4), "4 images lie in the upper left, their centres in the mean at 0.21 of the width and 0.26 of the height, as boxes do that are given in pixels of a smaller picture"),
    (BOXES * 1000, "the true boxes of 4 of 4 images stick out of the image, of 0.png among them"),
])  # fmt: skip
def test_boxes_of_another_frame(boxes, said):
    (found,) = of(boxes)
    assert said in found


def test_percent_of_images_little_larger():
    """(100 / 160) (100 / 120) is 0.52, to the fourth power 0.07; to the third 0.14, which may be chance."""
    sizes = [(160, 120)] * 4
    (found,) = of(BOXES * 100, sizes)
    assert "in percent of the image" in found
    assert of((BOXES * 100)[:3], sizes[:3]) == []
    assert "in thousandths of the image" in of(BOXES * 1000, [(1600, 1200)] * 4)[0]


def test_a_corner_and_sides_read_as_corners_show_in_the_mean():
    """x0 y0 and sides of the boxes, 25 times, whose centres are 0.4 0.45 0.4 0.375 and 0.425 0.35 0.45 0.475."""
    sides = np.tile(np.concatenate([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]], axis=1), (25, 1))
    sizes = SIZES * 25
    (found,) = of(sides * [(*size, *size) for size in sizes], sizes)
    assert "centres in the mean at 0.41 of the width" in found


def test_fractions_among_pixels():
    boxes = scaled(SIZES)
    boxes[2] = BOXES[2]
    (found,) = of(boxes)
    assert found == "true boxes of 1 of 4 images lie within 0 to 1, as fractions of the image do, of 2.png among them"


@pytest.mark.parametrize("number", [1, 2])
def test_few_images_say_nothing_of_their_place(number):
    assert of((BOXES * 100)[:number], SIZES[:number]) == []


def test_objects_in_the_middle_of_small_images_are_not_doubted():
    """They end within 100 of 128 pixels, all of them, and begin 28 from the other side."""
    assert of(np.tile([30, 28, 98, 100], (20, 1)), [(128, 128)] * 20) == []


def test_small_objects_anywhere_are_not_doubted():
    random = np.random.default_rng(0)
    for count in (4, 10, 100):
        for _ in range(50):
            corner = random.uniform(0, 0.8, (count, 2))
            boxes = np.concatenate([corner, corner + 0.2], axis=1) * 100
            assert of(boxes, [(100, 100)] * count) == []
