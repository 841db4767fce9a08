"""Image files: bombs, damage, wrong types under a name; each is either decoded rightly or refused by name."""

import os
import stat
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from common.pictures.images import MAX_PIXELS, ImageError, read_rgb, read_size, read_stored
from common.runs.photographs import Found, localize_photographs
from tests import fill
from tests.hostile.payloads import refused


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, depth: int = 8, colours: int = 0, data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def gif(width: int, height: int, frame: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x44\x01\x00;"


def tiff(width: int, height: int, bits: int = 8, samples: int = 1) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, samples),
        (278, height),
        (279, 1),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


TOO_LARGE = {
    "png": png(60_000, 60_000), "png, 2^31": png(2**31 - 1, 2**31 - 1), "png just over": png(10_001, 10_000),
    "gif": gif(65_535, 65_535), "tiff": tiff(2**31, 2**31), "bmp": bmp(2**31 - 1, 2**31 - 1), "ppm": b"P6 100000 100000 255\n",
    "ppm of thousands of digits": b"P6 " + b"9" * 5000 + b" 1 255\n",
}  # fmt: skip
NOT_THERE = {
    "png without data": png(20, 20), "png, no width": png(0, 20), "png, no height": png(20, 0), "gif, no size": gif(0, 0, (0, 0, 0, 0)),
    "tiff, no size": tiff(0, 0), "bmp, no size": bmp(0, 0), "ppm, no size": b"P6 0 0 255\n", "ppm cut": b"P6 20 20 255\nabc",
    "png of an unknown type": png(4, 4, colours=5), "bmp, negative": bmp(-5, 5), "tiff of 64 bits": tiff(4, 4, 64),
    "tiff of 4,000 channels": tiff(4, 4, 8, 4000), "html": b"<!doctype html><html>404 not found", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a zip": b"PK\x03\x04" + bytes(30), "zeros": bytes(1000), "jpeg's first bytes": b"\xff\xd8\xff\xe0", "riff": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
}  # fmt: skip


@pytest.mark.parametrize("content", TOO_LARGE.values(), ids=TOO_LARGE)
def test_bombs_are_refused_by_their_header(tmp_path, content):
    path = tmp_path / "n01440764_1.JPEG"
    path.write_bytes(content)
    for read in (read_rgb, read_size, read_stored):
        refused(lambda read=read: read(path), path)


@pytest.mark.parametrize("content", NOT_THERE.values(), ids=NOT_THERE)
def test_what_can_not_be_decoded(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg: "):
        read_rgb(path)


def test_text_in_a_png_that_unpacks_to_gigabytes(tmp_path):
    """Pillow's own limit; ours is that it is an ImageError."""
    path = tmp_path / "a.png"
    text = zlib.compress(bytes(70 * 2**20))
    path.write_bytes(png(4, 4, *[chunk(b"zTXt", b"a\0\0" + text)] * 2, data=bytes(20)))
    with pytest.raises(ImageError):
        read_rgb(path)


def test_postscript_under_a_jpegs_name_runs_nothing(tmp_path, payload, monkeypatch):
    """Pillow hands PostScript to `gs`, a program that files have made run commands more than once."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch {payload.marker}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n%%EOF\n")
    for read in (read_rgb, read_size):
        refused(lambda read=read: read(path), path)


@pytest.mark.parametrize(
    ("size", "mode"), [((1, 1), "RGB"), ((30_000, 1), "RGB"), ((1, 30_000), "L"), ((30_000, 20), "1")]
)
def test_odd_sizes_are_read(tmp_path, size, mode):
    Image.new(mode, size, 1).save(tmp_path / "a.png")
    found = read_rgb(tmp_path / "a.png")
    assert found.shape == (size[1], size[0], 3)
    assert read_size(tmp_path / "a.png") == size


def test_a_type_is_told_by_content_and_not_by_name(tmp_path):
    for ending, kind in (
        ("jpg", "PNG"),
        ("png", "GIF"),
        ("gif", "BMP"),
        ("JPEG", "TIFF"),
        ("bmp", "PPM"),
        ("jpg", "WEBP"),
    ):
        if kind == "WEBP" and not features.check("webp"):
            continue
        Image.fromarray(fill.image(20, 30)).save(
            tmp_path / f"a.{ending}", format=kind, **{"lossless": True} if kind == "WEBP" else {}
        )
        found = read_rgb(tmp_path / f"a.{ending}")
        assert found.shape == (20, 30, 3), kind
        if kind != "GIF":
            np.testing.assert_array_equal(found, fill.image(20, 30))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "I;16", "LA", "RGBA", "P", "1", "L"])
def test_every_mode_is_read(tmp_path, mode):
    picture = Image.fromarray(fill.image(20, 30))
    if mode == "I;16":
        picture = Image.fromarray(np.full((20, 30), 0x8012, np.uint16))
    elif mode == "LAB":
        from PIL import ImageCms

        picture = ImageCms.profileToProfile(
            picture, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("a.png" if mode in ("LA", "RGBA", "P", "1", "L", "I;16") else "a.tif")
    picture.save(path)
    found = read_rgb(path)
    assert (found.shape, found.dtype) == ((20, 30, 3), np.uint8)
    if mode == "I;16":
        assert (found == 0x80).all()
    elif mode in ("CMYK", "YCbCr", "LAB", "RGBA"):  # the colours, not the channels
        assert np.abs(found.astype(int) - fill.image(20, 30)).mean() < 4


@pytest.mark.parametrize(
    "name", ["plain.jpg", "cmyk.jpg", "deep.png", "palette.png", "moving.gif", "plain.bmp", "plain.webp"]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_files_are_refused_and_never_filled_with_grey(world, tmp_path, name, share):
    content = (world / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    try:
        found = read_rgb(tmp_path / name)
    except ImageError:
        return
    np.testing.assert_array_equal(found, read_rgb(world / name))  # what is cut is then after the picture


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "\udcff.jpg", "a\x1b[2J.jpg", "folder.jpg", "loop.jpg"])
def test_names_that_a_file_system_or_terminal_stumbles_over(tmp_path, name):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(ImageError) as caught:
        read_rgb(tmp_path / name)
    assert str(caught.value).isprintable()


def test_photographs_that_can_not_be_read_are_counted_and_named(tmp_path, capsys):
    from common.measuring.geometry import Frame

    Image.fromarray(fill.image(20, 30)).save(tmp_path / "good.png")
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000))
    (tmp_path / "\x1b[2Jnone.png").write_bytes(b"")

    def find(image):
        return Found(Frame.squash(image.shape[1::-1]), np.zeros((224, 224), np.float32), None, 0.2, {})

    paths = sorted(tmp_path.glob("*.png"))
    records = localize_photographs(paths, tmp_path / "out", False, read_rgb, find)
    said = capsys.readouterr().out
    assert len(records) == 1
    assert "1 image localized, 2 left out" in said
    assert "left out: " in said
    assert "bomb.png" in said
    assert "\x1b" not in said


def test_the_limit_is_what_the_tests_above_take_it_for():
    assert MAX_PIXELS == 100_000_000
