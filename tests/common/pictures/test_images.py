import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from common.pictures import images
from common.pictures.images import ImageError, read_rgb, read_size, read_stored
from tests import fill


def save(path, image, **options):
    image.save(path, **options)
    return path


def colours(mode="RGB"):
    return Image.fromarray(fill.image(60, 80, 3)).convert(mode)


# ------------------------------------------------------------------------------------------------ what files may hold


def test_a_plain_image(tmp_path):
    path = save(tmp_path / "a.png", colours())
    np.testing.assert_array_equal(read_rgb(path), fill.image(60, 80, 3))
    assert read_size(path) == (80, 60)


@pytest.mark.parametrize("name", ["grey.jpg", "grey.png"])
def test_grey_is_tripled(tmp_path, name):
    found = read_rgb(save(tmp_path / name, colours("L")))
    assert found.shape == (60, 80, 3)
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()


def test_cmyk_becomes_rgb(tmp_path):
    found = read_rgb(save(tmp_path / "a.jpg", colours("CMYK"), quality=95))
    assert np.abs(found.astype(int) - fill.image(60, 80, 3)).mean() < 4


def test_alpha_is_dropped_not_blended(tmp_path):
    image = colours("RGBA")
    image.putalpha(0)
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", image)), fill.image(60, 80, 3))


def test_palettes_are_looked_up(tmp_path):
    image = colours("P")
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", image)), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    grey = (np.arange(65536, dtype=np.uint32).reshape(256, 256)).astype(np.uint16)
    found = read_rgb(save(tmp_path / "a.png", Image.fromarray(grey)))
    np.testing.assert_array_equal(found[..., 1], grey >> 8)


def test_an_exif_rotation_is_ignored_unless_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = save(tmp_path / "a.jpg", colours(), exif=exif)
    assert read_size(path) == (80, 60)
    assert read_rgb(path).shape == (60, 80, 3)
    assert read_rgb(path, orientation="apply").shape == (80, 60, 3)
    with pytest.raises(ValueError, match="unknown orientation"):
        read_rgb(path, orientation="turn")


def test_a_tiff_is_turned_by_pillow_and_by_nobody_again(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.tif", colours(), exif=exif)
    upright = np.rot90(np.asarray(colours()), -1)
    assert (read_size(path), images.is_turned(path)) == ((60, 80), False)
    for orientation in ("ignore", "apply"):
        np.testing.assert_array_equal(read_rgb(path, orientation), upright)
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(images.from_pillow(lazy), upright)


def test_another_tag_that_is_damaged_keeps_no_picture_from_being_turned(tmp_path):
    """A width's resolution that is text: Pillow can't write such tags again, which its own turn would."""
    entries = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<HHI4s", 0x11A, 2, 4, b"abc")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    path = save(tmp_path / "a.jpg", colours(), exif=exif, quality=95)
    expected = np.rot90(read_rgb(path), -1)
    np.testing.assert_array_equal(read_rgb(path, orientation="apply"), expected)
    with Image.open(path) as lazy:
        np.testing.assert_array_equal(images.from_pillow(lazy), expected)


def test_every_turn_is_pillows():
    picture = Image.fromarray(fill.image(6, 8, 3))
    for orientation in range(10):
        picture.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(images.from_pillow(picture), np.asarray(ImageOps.exif_transpose(picture)))


def test_the_first_of_several_pictures(tmp_path):
    path = save(tmp_path / "a.gif", colours("P"), save_all=True, append_images=[Image.new("P", (80, 60))])
    assert read_rgb(path).max() > 0


def truncated(tmp_path):
    content = io.BytesIO()
    Image.fromarray(fill.image(300, 400, 3)).save(content, format="JPEG")
    path = tmp_path / "truncated.jpg"
    path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    return path


def empty(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    return path


def no_image(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("not an image")
    return path


def floating(tmp_path):
    return save(tmp_path / "a.tif", Image.fromarray(np.ones((8, 8), np.float32)))


def wide_integers(tmp_path):
    return save(tmp_path / "a.tif", Image.fromarray(np.full((8, 8), 70000, np.int32)))


def twelve_bits_in_colour(ending):
    """Colours of 12 bits in 16 bits a channel, as cameras leave them; their high bytes end at 15."""
    pixels = np.linspace(0, 4095, 16 * 16 * 3).astype(np.uint16).reshape(16, 16, 3)

    def write(folder):
        cv2.imwrite(str(folder / f"a.{ending}"), pixels)
        return folder / f"a.{ending}"

    return write


def twelve_bits(folder):
    return save(folder / "a.png", Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)))


def eight_bits_in(kind):
    """Grey whose values are those of 8 bits, in more; its high bytes are black."""
    grey = np.arange(256, dtype=kind).reshape(16, 16)
    return lambda folder: save(folder / "a.tif", Image.fromarray(grey))


@pytest.mark.parametrize(("make", "message"), [
    (eight_bits_in(np.uint16), "hold values to 255 alone, which are black"), (eight_bits_in(np.int32), "Save it in 8 bits"),
    (twelve_bits, "hold values to 4095 alone, which are black, or nearly"),
    (twelve_bits_in_colour("png"), "hold values to 3840 alone"), (twelve_bits_in_colour("tif"), "hold values to 3840 alone"),
    (truncated, "can't be decoded"), (empty, "the file is empty"), (no_image, "not a readable image"),
    (floating, "floating-point pixels"), (wide_integers, "more than 16 bits"), (lambda folder: folder / "gone.jpg", "no such image"),
    (lambda folder: folder, "this is a folder"),
])  # fmt: skip
def test_what_is_no_usable_image(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(ImageError, match=message) as caught:
        read_rgb(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_too_many_pixels_are_refused_by_the_header(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.new("L", (1000, 1000)))
    monkeypatch.setattr(images, "MAX_PIXELS", 999_999)
    for read in (read_rgb, read_size):
        with pytest.raises(ImageError, match="1000 x 1000 pixels"):
            read(path)


def test_a_decompression_bomb_is_refused(tmp_path):
    header = (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4, "big")
        + b"IHDR"
        + (60000).to_bytes(4, "big") * 2
        + b"\x08\x00\x00\x00\x00"
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(header + (0).to_bytes(4, "big") + (0).to_bytes(4, "big") + b"IDAT" + bytes(4))
    with pytest.raises(ImageError):
        read_rgb(path)


def test_masks_are_one_channel(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[0, 128], [129, 255]], np.uint8)))
    assert read_stored(path).tolist() == [[0, 128], [129, 255]]


# ----------------------------------------------------------------------------------------------- resizes and crops


@pytest.mark.parametrize("orientation", range(1, 9))
def test_other_decoders_pixels_turn_as_pillow_turns_them(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    found = images.upright(stored, tmp_path / "a.png")
    np.testing.assert_array_equal(found, images.read_photograph(tmp_path / "a.png"))
    assert (found.shape[:2] == (4, 3)) == (orientation > 4)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(images.from_pillow(opened), found)
