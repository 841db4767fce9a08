"""One picture in the shapes that photographs come in."""

import numpy as np
from PIL import Image

from tests import fill


def write(folder):
    """The same grey picture upright, lying with EXIF 6, in grey, CMYK, 16 bits; without loss. Returns the paths."""
    grey = fill.image(90, 60, 3)[..., 0]
    upright = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    exif = Image.Exif()
    exif[0x112] = 6
    paths = [folder / name for name in ("upright.png", "phone.png", "grey.png", "cmyk.tif", "deep.png")]
    upright.save(paths[0])
    upright.transpose(Image.Transpose.ROTATE_90).save(paths[1], exif=exif)
    Image.fromarray(grey).save(paths[2])
    upright.convert("CMYK").save(paths[3])
    Image.fromarray(grey.astype(np.uint16) << 8).save(paths[4])
    return paths
