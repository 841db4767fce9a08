"""Make pseudo boxes of held-out images that have no true ones, to choose thresholds on.

    python -m common.pseudo_boxes runs/cam/held/squash --out runs/cam/pseudo.csv
    python -m common.evaluate runs/cam/test/* --validation runs/cam/held/* --pseudo runs/cam/pseudo.csv

By Selective Search, for each image the proposal that agrees most with the classifier's own map; this needs OpenCV's
contributed modules. With --descriptors from what GRCAM's step 3 wrote of the same images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from common.datasets import Sample
from common.pictures.images import ImageError, read_rgb
from common.results import pseudo
from common.results.scoring import frame_of_truth
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
    boxes: Annotated[Path | None, also("data.boxes")] = None
    """The boxes that --data.boxes named, where they are no longer there."""
    metadata: Annotated[Path | None, also("data.metadata")] = None
    """The folder that --data.metadata named, where it is no longer there."""
    list_file: Annotated[Path | None, also("data.list-file")] = None
    """The list that --data.list-file named, where it is no longer there."""
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
        samples = _samples(options, predictions)
        known = [entry for entry in predictions.entries if entry.image_id in samples]
        sizes = {entry.image_id: frame_of_truth(entry, samples[entry.image_id]).original for entry in known}
        boxes = pseudo.read_descriptor_boxes(options.descriptors, sizes)
    elif not predictions.has_maps:
        raise UserError("the predictions have no maps", where=options.run, do="localize again with maps saved")
    else:
        boxes = _searched(predictions, _samples(options, predictions))
    pseudo.write(options.out, boxes, predictions.manifest.fingerprint)
    print(f"{len(boxes)} pseudo boxes of {len(predictions.entries)} images: {options.out}")
    return boxes


def _samples(options: PseudoBoxes, predictions: Predictions) -> dict[str, Sample]:
    places = Places(options.root, options.boxes, options.metadata, options.list_file)
    return {sample.image_id: sample for sample in predictions.source_in(places).load()}


def _searched(predictions: Predictions, samples: Mapping[str, Sample]) -> dict[str, np.ndarray]:
    """The most agreeing proposals, in pixels of the size that annotations declare, as true boxes are."""
    boxes = {}
    for entry in bar(predictions.entries, total=len(predictions.entries), desc="proposals"):
        try:
            sample = samples[entry.image_id]
            picture = read_rgb(sample.path)
        except (ImageError, KeyError):
            continue  # counted by the line that tells how many boxes were made
        seen = replace(entry.frame, original=picture.shape[1::-1]).to_frame(pseudo.proposals(picture))
        best = pseudo.most_agreeing(predictions.map(entry), seen)
        if best is not None:
            boxes[entry.image_id] = frame_of_truth(entry, sample).to_original(seen[best])[0]
    return boxes


def main() -> None:
    """Run the command line."""
    make(parse(PseudoBoxes, prog="python -m common.pseudo_boxes", description=__doc__))


if __name__ == "__main__":
    run_command(main)
