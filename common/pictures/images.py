"""Reading pixels; `common.pictures.inputs` makes a network's input of them.

What a file may hold, and what is done with it:

| the file holds | `read_rgb` gives |
|---|---|
| grey, palette, grey with alpha | three equal or looked-up channels |
| CMYK | Pillow's conversion to RGB, Adobe's inverted files included |
| alpha | colours as stored, alpha dropped: what Pillow's `convert("RGB")` and OpenCV both do |
| 16 bits a channel | the high byte: what OpenCV does; Pillow would clip to white |
| 16 or 32 bits a channel whose values stay below 4096, as 8 or 12 bits do | `ImageError`: high bytes are nearly black |
| an EXIF rotation | pixels as stored (`orientation="ignore"`): annotations ignore it too; `apply` turns them |
| the same in a TIFF | upright pixels, as Pillow's decoder gives them, whatever is asked for |
| several pictures (GIF, TIFF) | the first |
| less than it announces (truncated), nothing, no image, no pixel, floating-point pixels | `ImageError` |
| PostScript and other formats than `FORMATS` | `ImageError`: Pillow would run another program on some of them |
| more than `MAX_PIXELS` pixels | `ImageError`, before anything is decoded |
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from common.system.errors import UserError
from common.system.files import need_file

MAX_PIXELS = 100_000_000
"""Larger images are refused by their header. ILSVRC's largest has 24 million pixels."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats by Pillow's names, whatever ending a file has."""

LOSSY = ("JPEG", "MPO", "WEBP")
"""Formats that blur values, WebP as it may be."""

LEAST_OF_16_BITS = 4096
"""Greatest value of a channel of 16 bits from which on it is no picture of 12 bits or fewer."""


class ImageError(UserError):
    """An image that can't be used. Long jobs count and name such images instead of stopping."""


def read_size(path: Path) -> tuple[int, int]:
    """Width and height by the file's header, as stored: an EXIF rotation is ignored, nothing is decoded.

    Raises:
        ImageError: no such file, not an image, or more than `MAX_PIXELS` pixels.
    """
    with _open(path) as image:
        return image.size


def is_turned(path: Path) -> bool:
    """Whether an EXIF tag says that the stored picture is to be turned or mirrored before it is looked at.

    Raises:
        ImageError: as `read_size`.
    """
    with _open(path) as image:
        return _orientation(image) in _TURNS


def read_rgb(path: Path, orientation: str = "ignore") -> np.ndarray:
    """The image as (H, W, 3) uint8 RGB; the table above says what becomes of unusual files.

    Args:
        path: of one of `FORMATS`.
        orientation: `ignore` or `apply` the EXIF rotation; OpenCV applies it, with which SPOL and DGL's
            training read.

    Raises:
        ImageError: the file is missing, truncated, empty, not an image, or too large.
    """
    if orientation not in ("ignore", "apply"):
        raise ValueError(f"unknown orientation {orientation!r}, expected ignore or apply")
    with _open(path) as image:
        try:
            pixels = _to_rgb(image, path)
            return _turned(pixels, image) if orientation == "apply" else pixels
        except ImageError:
            raise
        except Exception as error:  # a damaged file fails in many ways, each decoder in its own
            reason = str(error) or type(error).__name__
            raise ImageError(f"the image can't be decoded ({reason})", where=path, do="replace or remove it") from error


def read_photograph(path: Path) -> np.ndarray:
    """Read a photograph that is named by hand: (H, W, 3) uint8 RGB, turned upright by its EXIF tag.

    Images of a data set are read as stored (`read_rgb`), since their annotations were made so.

    Raises:
        ImageError: as `read_rgb`.
    """
    return read_rgb(path, "apply")


def from_pillow(image: Image.Image) -> np.ndarray:
    """Turn a picture that Pillow holds into (H, W, 3) uint8 RGB, upright by its EXIF tag.

    Raises:
        ImageError: floating-point pixels, more than 16 bits a channel, no or too many pixels, or a file behind it that
            can't be decoded.
    """
    where = Path(getattr(image, "filename", "") or "the picture")
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise ImageError(f"the image has {image.width} x {image.height} pixels", where=where,
                         expected=f"1 to {MAX_PIXELS:,} in all")  # fmt: skip
    try:
        return _turned(_to_rgb(image, where), image)
    except ImageError:
        raise
    except Exception as error:  # as in read_rgb
        reason = str(error) or type(error).__name__
        raise ImageError(f"the image can't be decoded ({reason})", where=where, do="replace it") from error


_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""Transpositions that make stored pixels upright, by the EXIF tag Orientation."""


def upright(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Turn pixels (H, W, ...) that another decoder read as stored, as the file's EXIF tag says.

    Raises:
        ImageError: as `read_rgb`.
    """
    with _open(path) as image:
        return _turned(pixels, image)


def _turned(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Pixels as the image's tag says; Pillow's own turn fails where another tag can't be written again."""
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _orientation(image: Image.Image) -> int:
    """The turn that is still to be done: of a TIFF's none, which Pillow's decoder turns, and whose size is so."""
    if image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag fails in many ways, and turns nothing
        return 1


def read_stored(path: Path) -> np.ndarray:
    """A mask's values as stored: (H, W) uint8 or int32 where it is grey, (H, W, 3) uint8 RGB where it is in colours.

    A palette of greys, and RGB of three equal channels, are grey. What is transparent is black; of a picture that is of
    one colour the opacity is taken.

    Raises:
        ImageError: as `read_rgb`.
    """
    with _open(path) as image:
        deep, alpha = image.mode.startswith("I"), None
        try:
            stored = np.asarray(image, dtype=np.int32) if deep else None
            if image.mode in ("RGBA", "LA", "PA") or (image.mode in ("RGB", "L", "P") and "transparency" in image.info):
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
        except Exception as error:  # as in read_rgb
            raise ImageError(f"the image can't be decoded ({error})", where=path, do="replace or remove it") from error
    if stored is not None:
        if stored.min() < 0 or stored.max() > 65535:
            raise ImageError("the image has more than 16 bits a channel", where=path, expected="8 or 16 bits")
        return stored
    pixels = read_rgb(path)
    if alpha is not None and alpha.min() < alpha.max():
        if (pixels == pixels[0, 0]).all():
            return alpha
        pixels = np.where(alpha[..., None] > 0, pixels, 0)
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0] if grey else pixels


def is_lossy(path: Path) -> bool:
    """Whether a picture's format is one that blurs values, so that few zeros stay zeros: JPEG, and WebP as it may be.

    Raises:
        ImageError: not there, or no image.
    """
    with _open(path) as image:
        return image.format in LOSSY


def read_labels(path: Path) -> np.ndarray:
    """A label map as (H, W) uint8: the numbers that a palette or grey image of 8 bits stores, never its colours.

    Raises:
        ImageError: as `read_rgb`, or the image has colours, more than 8 bits, grey of fewer bits, of which decoders
            make other numbers, or a format that blurs them.
    """
    with _open(path) as image:
        kind = image.mode
        if image.format in LOSSY:
            kind = f"{image.format}, which blurs numbers"
        elif image.mode == "L" and any(";" in str(tile[3]) for tile in getattr(image, "tile", ())):
            kind = "grey of fewer than 8 bits, which decoders make brighter"
        if kind not in ("P", "L"):
            raise ImageError(f"the label map is an image of the kind {kind}", where=path,
                             expected="8 bits a pixel, palette or grey, each pixel a label")  # fmt: skip
        try:
            image.load()
        except Exception as error:  # a damaged file fails in many ways
            reason = str(error) or type(error).__name__
            raise ImageError(f"the image can't be decoded ({reason})", where=path, do="replace it") from error
        return np.array(image, np.uint8)


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(path: Path) -> Image.Image:
    need_file(path, ImageError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF and of size; size is checked below
            image = Image.open(path, formats=formats())
    except FileNotFoundError as error:
        raise ImageError("no such image", where=path) from error
    except Exception as error:  # as above
        empty = not isinstance(error, OSError) or isinstance(error, UnidentifiedImageError)
        empty = empty and path.is_file() and path.stat().st_size == 0
        reason = "the file is empty" if empty else f"not a readable image ({type(error).__name__})"
        raise ImageError(reason, where=path, do="replace or remove it") from error
    if image.width * image.height == 0:
        image.close()
        raise ImageError("the image has no pixels", where=path, do="replace or remove it")
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise ImageError(f"the image has {size} pixels", where=path, expected=f"at most {MAX_PIXELS:,} in all")
    return image


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode == "F":
        raise ImageError("the image has floating-point pixels", where=path, expected="8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError("the image has more than 16 bits a channel", where=path, expected="8 or 16 bits")
        _need_light(int(grey.max()), path)
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    deep = _is_deep(image)
    pixels = np.asarray(image.convert("RGB"))
    if deep:  # Pillow has kept the high bytes
        _need_light(int(pixels.max()) << 8, path)
    return pixels


def _is_deep(image: Image.Image) -> bool:
    """Whether a picture that has not been decoded holds 16 bits in each of several channels."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _need_light(greatest: int, path: Path) -> None:
    """Refuse (`ImageError`) fewer bits that were stored in 16, of which the high byte would be taken."""
    if 0 < greatest < LEAST_OF_16_BITS:
        raise ImageError(f"the image's 16 bits or more hold values to {greatest} alone, which are black, or nearly",
                         where=path, expected="0 to 65535", do="save it in 8 bits")  # fmt: skip
