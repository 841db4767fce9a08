"""Localization maps that other code wrote, found by their names and turned into maps as ours are."""

from pathlib import Path, PurePosixPath

import numpy as np

from common.measuring.arrays import Array, Floats
from common.measuring.extraction import widened
from common.measuring.geometry import LARGEST_INPUT, Frame, map_in_frame
from common.runs.reader import open_map
from common.system.errors import UserError, inside

NEAR = {
    "<image_id>.npz": "{path}.npz", "<image_id without its ending>.npy": "{stem}.npy",
    "<image_id without its ending>.npz": "{stem}.npz", "<image_id>.pt": "{path}.pt",
    "<image_id without its ending>.pt": "{stem}.pt", "<image_id without its ending>.png": "{stem}.png",
    "<file name>.npy": "{name}.npy",
}  # fmt: skip
"""Names that other code gives to maps, which are looked for to say what is wrong."""
OVERSHOOT = 1e-3
"""Distance by which a map may leave [0, 1] and is clipped: what rounding to half precision can do."""


def need_map(maps: Path, image_id: str) -> None:
    """Refuse (`UserError`) a folder without an image's map, saying under which other name it is there."""
    if inside(maps, f"{image_id}.npy").exists():
        return
    path, stem = PurePosixPath(image_id), PurePosixPath(image_id).with_suffix("")
    for words, form in NEAR.items():
        if inside(maps, form.format(path=path, stem=stem, name=path.name)).exists():
            raise UserError(f"no <image_id>.npy, but {words}", where=maps)
    raise UserError("no such map", where=maps)


def take(path: Path, frame: Frame, resize: str = "no", greatest: int = 1) -> tuple[Floats, list[str]]:
    """A map of somebody else's as ours are, and what was changed in it; see the table of `common.adopt`.

    Args:
        path: the `.npy` file.
        frame: what it shows, or is cut and resized to show.
        resize: `no`, or `frame` or `image`: what a map of another size shows.
        greatest: value of uint8 that is 1 where this map alone doesn't exceed 1; 255 where another does.

    Returns:
        (H, W) float32 or float64 in [0, 1], of the frame's size.

    Raises:
        UserError: the map can't be taken.
    """
    stored = open_map(path)
    changes: list[str] = []
    if stored.ndim > 2 and 1 in stored.shape:
        stored = stored.reshape([length for length in stored.shape if length > 1])
        changes.append("axes of one taken off")
    if stored.ndim != 2 or stored.size == 0 or max(stored.shape) > LARGEST_INPUT:
        raise UserError(f"of shape {'x'.join(map(str, stored.shape))}", where=path, expected="height and width")
    size = stored.shape[::-1]
    if size != tuple(frame.size) and resize == "no":
        raise UserError(f"{size[0]}x{size[1]}, not {frame.size[0]}x{frame.size[1]}", where=path)
    if resize == "frame" and size == frame.resized != frame.size:
        raise UserError(f"{size[0]}x{size[1]}, as the image before its centre is cut out", where=path,
                        do="say --resize image, or cut the maps to the centre")  # fmt: skip
    found, of_type = _floats(stored, greatest, path)
    changes += of_type
    if not np.isfinite(found).all():
        raise UserError("NaN or infinity in it", where=path)
    if found.min() < 0 or found.max() > 1:
        if found.min() < -OVERSHOOT or found.max() > 1 + OVERSHOOT:
            raise UserError("values outside [0, 1]", where=path)
        found = found.clip(0, 1)
        changes.append("clipped to [0, 1]")
    if size != tuple(frame.size):
        found = _resized(found, frame, resize, path)
        changes.append(f"resized from {size[0]}x{size[1]}")
    return found, changes


def _floats(stored: Array, greatest: int, path: Path) -> tuple[Floats, list[str]]:
    """A map's values as float32 or float64, and what was changed in those that are of 8 bits or bool."""
    changes = []
    if stored.dtype == np.uint8:
        greatest = 255 if stored.max() > 1 else greatest
        stored = stored / np.float32(greatest)
        changes.append("uint8 divided by 255" if greatest > 1 else "uint8 of 0 and 1 taken as such")
    elif stored.dtype == bool:
        stored = stored.astype(np.float32)
        changes.append("bool taken as 0 and 1")
    if stored.dtype.kind != "f" or stored.dtype.itemsize > 8:
        raise UserError(f"of {stored.dtype} values", where=path, expected="float32, float64, float16, uint8 or bool")
    return np.array(widened(stored)), changes


def _resized(found: Floats, frame: Frame, shows: str, path: Path) -> Floats:
    try:
        return map_in_frame(found, frame, shows).clip(0, 1)
    except ValueError as error:
        raise UserError(str(error), where=path) from error
