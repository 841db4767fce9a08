"""Take in localization maps that other code made, so that they can be scored and drawn like any method's.

    python -m common.adopt scoremaps --method mine --out runs/mine/test --data.name cub --data.root CUB_200_2011

The folder holds an `.npy` map for each image, `<image_id>.npy` as wsolevaluation writes them: floats in [0, 1], of the
frame's size. The maps stay where they are; the predictions directory points to them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from common.datasets import DataSource, Sample
from common.measuring.extraction import LARGEST_COMPONENT
from common.measuring.geometry import FRAMES, Frame
from common.pictures.images import ImageError
from common.runs.reader import read_map
from common.runs.record import MAPS, Prediction
from common.runs.writer import PredictionsWriter, finish
from common.system.errors import UserError, inside, run_command
from common.system.progress import bar


@dataclass(frozen=True)
class Adopt:
    """Make a predictions directory around a folder of maps."""

    maps: tyro.conf.Positional[Path]
    """The folder that holds <image_id>.npy for every image of the split."""
    data: DataSource
    """The images the maps are of."""
    out: Path
    """The predictions directory, new."""
    method: str
    """What to call these maps in tables."""
    architecture: str = "unknown"
    """The backbone; released thresholds are chosen by it."""
    frame: Literal["crop", "squash"] = "squash"
    """What the maps show. squash: the image resized to 224 x 224. crop: resized to 256 x 256, the central 224 x 224."""
    threshold: float = 0.2
    """Of the box that is stored beside each map; protocols choose their own."""
    overwrite: bool = False
    """Start anew where the folder holds other predictions."""


def adopt(options: Adopt) -> None:
    """The command.

    Raises:
        UserError: a map is missing, damaged, of another size, or leaves [0, 1].
    """
    if not options.maps.is_dir():
        raise UserError("no such folder", where=options.maps, do="name the folder that holds the .npy maps")
    dataset = options.data.load()
    header = {
        "method": options.method,
        "architecture": options.architecture,
        "data": options.data.described(dataset),
        "checkpoint": {"name": "adopted maps", "sha256": None},
        "classifier": None,
        "frame": FRAMES[options.frame],
        "options": {"maps": str(options.maps.resolve()), "threshold": options.threshold},
    }
    link = options.out / MAPS
    if link.exists() and not link.is_symlink():  # --overwrite would delete them
        raise UserError("the folder holds maps of its own", where=link, do="choose another --out")
    writer = PredictionsWriter(options.out, header, options.overwrite)
    link.unlink(missing_ok=True)
    link.symlink_to(options.maps.resolve(), target_is_directory=True)
    for sample in bar(dataset, total=len(dataset), desc="reading maps"):
        if sample.image_id in writer.done:
            continue
        try:
            size = sample.size
        except ImageError as problem:
            writer.skip(sample.image_id, problem.found)
            continue
        writer.write(_prediction(options, sample, size))
    finish([writer])


def _prediction(options: Adopt, sample: Sample, size: tuple[int, int]) -> Prediction:
    frame = Frame.of_kind(FRAMES[options.frame], size)
    localization_map = read_map(inside(options.maps, f"{sample.image_id}.npy"), frame)
    (boxes,) = LARGEST_COMPONENT.boxes(localization_map, [options.threshold])
    return Prediction(
        image_id=sample.image_id,
        label=sample.label,
        size=size,
        frame=frame,
        top5=None,
        top5_scores=None,
        box=boxes[0] if len(boxes) else None,
        threshold=options.threshold,
    )


def main() -> None:
    """The command line."""
    adopt(tyro.cli(Adopt, prog="python -m common.adopt", description=__doc__))


if __name__ == "__main__":
    run_command(main)
