"""Mask files whose pixels show the object in another way than by their grey."""

import numpy as np
import pytest
from PIL import Image

from common.datasets.masks import read_object
from common.pictures.images import ImageError

GREY = np.zeros((24, 32), np.uint8)
GREY[8:16, 8:24] = 255
WHITE = Image.fromarray(np.full_like(GREY, 255))
MASK = Image.fromarray(GREY)


def of_palette(colours, transparent=None):
    picture = Image.fromarray((GREY > 0).astype(np.uint8), "P")
    picture.putpalette([value for colour in colours for value in colour])
    if transparent is not None:
        picture.info["transparency"] = transparent
    return picture


@pytest.mark.parametrize(("picture", "ending"), [
    (MASK, "png"), (Image.merge("RGBA", [WHITE] * 3 + [MASK]), "png"), (Image.merge("LA", [MASK, WHITE]), "png"),
    (Image.merge("LA", [WHITE, MASK]), "png"), (of_palette([(0, 0, 0), (9, 0, 0)]), "png"),
    (of_palette([(255, 255, 255), (255, 0, 0)], transparent=0), "png"), (MASK, "jpg"), (MASK, "webp"),
    (Image.merge("RGB", [MASK, *[Image.fromarray(GREY // 5)] * 2]), "jpg"),
])  # fmt: skip
def test_one_rectangle_in_many_files(tmp_path, picture, ending):
    """JPEG at quality 60 leaves greys of 1 to 20 around the rectangle, which are no object."""
    picture.save(tmp_path / f"mask.{ending}", **({} if ending == "png" else {"quality": 60}))
    found, void = read_object(tmp_path / f"mask.{ending}", 0)
    np.testing.assert_array_equal(found, GREY > 0)
    assert void is None


def test_a_mask_that_is_all_object_or_all_background(tmp_path):
    for value in (0, 255):
        for ending in ("png", "jpg"):
            Image.fromarray(np.full_like(GREY, value)).save(tmp_path / f"mask.{ending}")
            assert (read_object(tmp_path / f"mask.{ending}", 0)[0] == (value > 0)).all()
    Image.new("RGB", (32, 24), (200, 0, 0)).save(tmp_path / "mask.png")
    assert read_object(tmp_path / "mask.png", 0)[0].all()


def test_colours_without_black_are_refused(tmp_path):
    of_palette([(255, 255, 255), (255, 0, 0)]).save(tmp_path / "mask.png")
    with pytest.raises(
        ImageError, match="mask.png: the mask has several colours and no black; expected a black backgr"
    ):
        read_object(tmp_path / "mask.png", 0)


def test_an_object_of_one_value_below_the_annotators_half_is_the_object(tmp_path):
    """CUB's masks hold 51 an annotator, and more than 128 is object; a mask of 0 and 100 is no such mask."""
    for value in (1, 100, 128, 204):
        Image.fromarray(GREY // 255 * np.uint8(value)).save(tmp_path / "mask.png")
        np.testing.assert_array_equal(read_object(tmp_path / "mask.png", 128)[0], GREY > 0)
    three = GREY // 255 * np.uint8(2)
    three[0] = 1
    Image.fromarray(three).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match="no value of the mask exceeds 128, the greatest is 2"):
        read_object(tmp_path / "mask.png", 128)
