import numpy as np
import pytest

from common.measuring.plausible import class_doubts, doubts

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


CLASSES = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(("labels", "best", "said"), [
    (CLASSES, [number + 1 for number in CLASSES], "right for 0% of the images, and would be for 100% if labels were one higher, as"),
    (list(range(1, 13)), list(range(12)), "right for 0% of the images, and would be for 100% if labels were one lower, as"),
    (CLASSES, [[2, 0, 3, 1][number] for number in CLASSES], "100% of a class's images are called as one class, those of class 0 as 2"),
    ([0] * 10 + [1] * 10, [1] * 10 + [0] * 9 + [1], "right for 5% of the images, and 95% of a class's images are called as"),
])  # fmt: skip
def test_classes_of_other_numbers(labels, best, said):
    (found,) = class_doubts(labels, [[one] for one in best])
    assert said in found


@pytest.mark.parametrize(("labels", "best"), [
    (CLASSES, CLASSES), (CLASSES, [1] * 20), (CLASSES, [number % 4 for number in range(20)]), ([0] * 12, [1] * 12),
    (CLASSES[:8], [number + 1 for number in CLASSES[:8]]), ([0] * 6 + [1] * 6, [1] * 6 + [0] * 6), (list(range(12)), [7] * 12),
    ([0] * 12 + [1, 2, 3], [1] * 15), (CLASSES, [0] * 5 + [2] * 5 + [3] * 5 + [1] * 5), ([], []),
    (list(range(12)), [5, 3, 8, 1, 0, 11, 2, 4, 9, 10, 6, 7]), ([0] * 10 + [1] * 10, [1] * 9 + [0] + [0] * 7 + [1] * 3),
])  # fmt: skip
def test_classes_that_are_right_by_chance_or_wrong_otherwise(labels, best):
    """A network that calls all the same, one that guesses, few images, one class alone, and one class of four right."""
    assert class_doubts(labels, [[one] for one in best]) == []


def test_best_classes_in_ascending_order():
    labels = [number % 4 for number in range(12)]
    (found,) = class_doubts(labels, [[(label + 2) % 4, (label + 1) % 4, label] for label in labels])
    assert found.startswith(
        "the first of the best classes is right for 0% of the images, and the last for 100%, as where"
    )
    assert class_doubts(labels, [[label, (label + 1) % 4] for label in labels]) == []
