"""Photographs without annotations: an overlay for each, all boxes in one table; every `localize` command's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.measuring.arrays import Boxes, Bytes, Floats
from common.measuring.geometry import Frame
from common.pictures.images import ImageError
from common.pictures.overlays import draw, encode_jpeg
from common.system.errors import UserError
from common.system.files import write_atomically, write_text
from common.system.wording import number_of

TABLE = "boxes.jsonl"


@dataclass(frozen=True, eq=False)
class Found:
    """A method's findings on one photograph.

    Attributes:
        frame: where the map and the box lie in it.
        localization_map: of the frame's size, in [0, 1].
        box: (4,) in the frame, or None.
        threshold: that made it.
        classified: `class` and `score`, and `label` where a class was asked for; or nothing.
    """

    frame: Frame
    localization_map: Floats
    box: Boxes | None
    threshold: float
    classified: dict[str, Any]


def localize_photographs(
    paths: Sequence[Path],
    out: Path,
    overwrite: bool,
    read: Callable[[Path], Bytes],
    find: Callable[[Bytes], Found],
) -> list[dict[str, Any]]:
    """Write `<name>.jpg` overlays and `boxes.jsonl`; gives its records.

    Args:
        paths: the photographs; their names must differ.
        out: folder for the results.
        overwrite: replace earlier ones.
        read: a path to (H, W, 3) uint8 RGB; an `ImageError` is printed and the photograph left out.
        find: the method.

    Returns:
        For each photograph `image`, `size`, `class` and `score` where there is a classifier, `label` where a class was
        asked for, `box` in its pixels or None, `threshold`.

    Raises:
        UserError: no photograph is named or can be read, two have one name, or there are results already.
    """
    check_photographs(paths, out, overwrite)
    records = []
    for path in paths:
        try:
            image = read(path)
        except ImageError as problem:
            print(f"left out: {problem}")
            continue
        records.append(_record(path, image, find(image), out))
    if not records:
        raise UserError("none of the images could be read", do="look at the lines above")
    write_text(out / TABLE, "".join(f"{json.dumps(record)}\n" for record in records))
    print(f"{number_of(len(records), 'image', 'images')} localized, {len(paths) - len(records)} left out: {out}")
    return records


def check_photographs(paths: Sequence[Path], out: Path, overwrite: bool) -> None:
    """Refuse what `localize_photographs` would refuse before it reads anything; call it before a network is loaded."""
    if not paths:
        raise UserError("no image was named", do="name one or more")
    if len({path.name for path in paths}) < len(paths):
        raise UserError("two images have one name", do="localize them into different folders")
    if (out / TABLE).exists() and not overwrite:
        raise UserError("there are boxes already", where=out, do="choose another --out, or say --overwrite")


def _record(path: Path, image: Bytes, found: Found, out: Path) -> dict[str, Any]:
    size = image.shape[1::-1]
    _, overlay = draw(image, found.frame, found.localization_map, found.box, np.empty((0, 4)), longest=max(size))
    write_atomically(out / f"{path.name}.jpg", lambda file: file.write(encode_jpeg(overlay)))
    box = None if found.box is None else found.frame.to_original(found.box)[0]
    return {
        "image": str(path),
        "size": list(size),
        **found.classified,
        "box": None if box is None else [round(float(value), 2) for value in box],
        "threshold": found.threshold,
    }
