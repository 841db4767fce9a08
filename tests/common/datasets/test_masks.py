"""Mask files whose pixels show the object in another way than by their grey."""

import numpy as np
import pytest
from PIL import Image

from common.datasets import Sample
from common.datasets.masks import object_and_ignore, read_object, same_proportions, why_not
from common.measuring.geometry import Frame
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


def test_half_of_the_greatest_value_of_a_jpeg_is_no_object(tmp_path):
    """80 of 200 and 120 of 200, in whole blocks."""
    pixels = np.repeat(np.array([0, 80, 120, 200], np.uint8), 8)[None].repeat(8, axis=0)
    Image.fromarray(pixels).save(tmp_path / "mask.jpg", quality=95)
    np.testing.assert_array_equal(read_object(tmp_path / "mask.jpg", 0)[0], pixels > 100)


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
    with pytest.raises(ImageError) as raised:
        read_object(tmp_path / "mask.png", 128)
    said = "no value of the mask exceeds 128, the greatest is 2; expected an object above 128, or of one value"
    assert str(raised.value) == f"{tmp_path / 'mask.png'}: {said}"


def stored(path, rows, of=np.uint8):
    """A mask of four pixels a row, all of one value."""
    Image.fromarray(np.repeat(np.array(rows, of)[:, None], 4, axis=1)).save(path)
    return path


@pytest.mark.parametrize(("rows", "mask_over", "objects"), [
    ([0, 1, 2, 2], 0, [False, True, True, True]), ([1, 1, 1, 1], 128, [True] * 4), ([2, 2, 2, 2], 128, [False] * 4),
    ([0, 128, 129, 255], 128, [False, False, True, True]),
])  # fmt: skip
def test_what_a_grey_exceeds_is_object(tmp_path, rows, mask_over, objects):
    found, _ = read_object(stored(tmp_path / "mask.png", rows), mask_over)
    assert found[:, 0].tolist() == objects


@pytest.mark.parametrize(("rows", "mask_over", "objects"), [
    ([0, 5, 255, 300], 0, [False, True, True, True]), ([0, 0, 255, 255], 0, [False] * 2 + [True] * 2),
    ([0, 128 * 256 + 255, 129 * 256, 65535], 128, [False, False, True, True]), ([0, 0, 300, 300], 128, [False] * 2 + [True] * 2),
])  # fmt: skip
def test_grey_of_16_bits(tmp_path, rows, mask_over, objects):
    """Ids of objects are object, however small; where greys count annotators, the high byte does."""
    found, _ = read_object(stored(tmp_path / "mask.png", rows, np.uint16), mask_over)
    assert found[:, 0].tolist() == objects


def test_ids_of_16_bits_are_no_greys_of_annotators(tmp_path):
    with pytest.raises(ImageError, match="no value of the mask exceeds 33023, the greatest is 300"):
        read_object(stored(tmp_path / "mask.png", [0, 0, 5, 300], np.uint16), 128)


def test_what_is_ignored_is_all_that_is_not_0(tmp_path):
    object_, ignored = stored(tmp_path / "a.png", [255, 0, 0, 0]), stored(tmp_path / "b.png", [0, 0, 1, 200])
    sample = Sample("x", tmp_path, 0, masks=(object_,), ignore=ignored)
    for mask_over in (0, 128):
        mask, ignore = object_and_ignore(sample, Frame.squash((4, 4), 4), mask_over)
        assert (mask[:, 0].tolist(), ignore[:, 0].tolist()) == ([True] + [False] * 3, [False] * 2 + [True] * 2)


def test_a_mask_is_brought_into_its_frame_by_the_nearest_pixel(tmp_path):
    """Every second pixel of 16 x 8 is left; the frame is 3 x 2 pixels of these, from (1, 1) on."""
    pixels = np.zeros((8, 16), np.uint8)
    pixels[2, [4, 7]] = pixels[4, 6] = pixels[2, 8] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    frame = Frame((16, 8), (8, 4), (1, 1, 3, 2))
    mask, _ = object_and_ignore(Sample("x", tmp_path, 0, masks=(tmp_path / "mask.png",)), frame, 128)
    assert mask.tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize("wrong", ["a.png", "b.png"])
def test_a_mask_of_other_proportions_is_named(tmp_path, wrong):
    for name in ("a.png", "b.png"):
        stored(tmp_path / name, [255] * (9 if name == wrong else 6))
    sample = Sample("x", tmp_path, 0, masks=(tmp_path / "a.png",), ignore=tmp_path / "b.png")
    with pytest.raises(ImageError) as raised:
        object_and_ignore(sample, Frame.squash((4, 6), 4), 128)
    assert str(raised.value) == f"{tmp_path / wrong}: the mask is 4x9, its image 4x6; expected the image's proportions"
    assert why_not(raised.value) == "the mask has other proportions than its image"


@pytest.mark.parametrize(("size", "other", "same"), [
    ((500, 100), (12, 2), True), ((100, 500), (2, 12), True),  # 12 * 100 - 500 * 2 = 200, less than a pixel of 500
    ((11, 11), (11, 10), True), ((10, 10), (10, 12), False),  # 11 of 11, 20 of 12
    ((1000, 1000), (1000, 1020), True), ((1000, 1000), (1000, 1022), False),  # 2 % and a little more, either way
])  # fmt: skip
def test_proportions_may_differ_by_a_pixel_or_by_a_fiftieth(size, other, same):
    assert same_proportions(size, other) == same_proportions(other, size) == same
