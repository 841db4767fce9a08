"""Make pseudo boxes of held-out images that have no true ones, to choose thresholds on.

    python -m common.pseudo_boxes runs/cam/held/squash --out runs/cam/pseudo.csv
    python -m common.evaluate runs/cam/test/* --validation runs/cam/held/* --pseudo runs/cam/pseudo.csv

By Selective Search, for each image the proposal that agrees most with the classifier's own map; this needs OpenCV's
contributed modules. With --descriptors from what GRCAM's step 3 wrote of the same images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from common.pictures.images import ImageError, read_rgb
from common.runs import pseudo
from common.runs.reader import Places, Predictions
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.system.progress import bar


@dataclass(frozen=True)
class PseudoBoxes:
    """Make pseudo boxes of held-out images."""

    run: tyro.conf.Positional[Path]
    """Predictions of the held-out images, with maps."""
    out: Path
    """The CSV file to write."""
    descriptors: Path | None = None
    """The pseudo-box file of GRCAM's step 3, in place of Selective Search."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder, where it is no longer the one in the manifest."""
    overwrite: bool = False
    """Replace the file where it is there already."""


def make(options: PseudoBoxes) -> dict[str, np.ndarray]:
    """Make pseudo boxes, and return each box (4,) in pixels of the original image by image id.

    Raises:
        UserError: no maps, no Selective Search, or the file is there already.
    """
    if options.out.exists() and not options.overwrite:
        raise UserError("the file is there already", where=options.out, do="choose another --out, or say --overwrite")
    predictions = Predictions.open(options.run)
    if options.descriptors is not None:
        sizes = {entry.image_id: entry.size for entry in predictions.entries}
        boxes = pseudo.read_descriptor_boxes(options.descriptors, sizes)
    elif not predictions.has_maps:
        raise UserError("the predictions have no maps", where=options.run, do="localize again with maps saved")
    else:
        boxes = _searched(predictions, options.root)
    pseudo.write(options.out, boxes)
    print(f"{len(boxes)} pseudo boxes of {len(predictions.entries)} images: {options.out}")
    return boxes


def _searched(predictions: Predictions, root: Path | None) -> dict[str, np.ndarray]:
    samples = {sample.image_id: sample for sample in predictions.source_in(Places(root)).load()}
    boxes = {}
    for entry in bar(predictions.entries, total=len(predictions.entries), desc="proposals"):
        try:
            proposed = pseudo.proposals(read_rgb(samples[entry.image_id].path))
        except (ImageError, KeyError):
            continue  # counted by the line that tells how many boxes were made
        best = pseudo.most_agreeing(predictions.map(entry), entry.frame.to_frame(proposed))
        if best is not None:
            boxes[entry.image_id] = proposed[best]
    return boxes


def main() -> None:
    """Run the command line."""
    make(parse(PseudoBoxes, prog="python -m common.pseudo_boxes", description=__doc__))


if __name__ == "__main__":
    run_command(main)
