"""A picture for a README or a paper: a column an image, a row for each predictions directory, boxes and maps drawn in.

python -m common.report.sheet runs/cam/test/crop runs/bas/test/crop --validation runs/*/held/crop --out sheet.pdf
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tyro

from common.pictures.images import read_rgb
from common.pictures.overlays import check_ending, draw, encode
from common.report.gallery import measure
from common.results.audit import judge
from common.results.evaluation import Evaluation, EvaluationOptions, evaluate, set_numbers
from common.system.errors import UserError, run_command
from common.system.files import write_atomically
from common.system.options import parse

GAP, WORDS = 6, 18
"""Pixels between pictures, and above a row for its name."""


@dataclass(frozen=True)
class Sheet(EvaluationOptions):
    """Draw the same images under several predictions directories into one picture."""

    resamples: tyro.conf.Suppress[int] = 0
    seed: tyro.conf.Suppress[int] = 0
    out: Path = Path("sheet.jpg")
    """The picture, in the format of its ending: .jpg, .png, or .pdf at 300 pixels an inch."""
    images: int = 6
    """Number of images, spread evenly over the data set."""
    ids: tuple[str, ...] = ()
    """Ids of the images to show, in this order, in place of --images."""
    width: int = 180
    """Width of each picture in pixels; its height is three quarters of that."""
    overwrite: bool = False
    """Replace the picture where it is there already."""


def sheet(
    evaluations: Sequence[Evaluation], count: int, width: int, workers: int = 1, ids: Sequence[str] = ()
) -> np.ndarray:
    """The picture, (H, W, 3) uint8 RGB: a row with a name for each predictions directory, its map and box drawn in.

    Args:
        evaluations: of one data set.
        count: images, spread evenly over those that every directory holds.
        width: of each picture; images are squashed to three quarters of it in height.
        workers: processes.
        ids: images to show instead.

    Raises:
        UserError: no such image in some directory, or directories of several data sets.
    """
    if other := [each for each, number in zip(evaluations, set_numbers(evaluations), strict=True) if number]:
        raise UserError("the runs are of other images", where=other[0].predictions.directory,
                        expected=f"those of {evaluations[0].predictions.directory}")  # fmt: skip
    held = [{entry.image_id for entry in evaluation.predictions.entries} for evaluation in evaluations]
    common = [
        entry.image_id for entry in evaluations[0].predictions.entries if all(entry.image_id in ids for ids in held)
    ]
    picked = [common[int(k)] for k in np.linspace(0, len(common) - 1, min(count, len(common))).round()]
    if ids:
        for evaluation, known in zip(evaluations, held, strict=True):
            if missing := [image_id for image_id in ids if image_id not in known]:
                raise UserError(f"no image {missing[0]!r}", where=evaluation.predictions.directory,
                                expected="ids as in predictions.jsonl")  # fmt: skip
        picked = list(ids)
    size = (width, width * 3 // 4)
    rows = []
    for evaluation in evaluations:
        pictures = _pictures(evaluation, picked, size, workers)
        name = np.full((WORDS, len(picked) * (width + GAP), 3), 255, np.uint8)
        words = f"{evaluation.label}, {evaluation.predictions.manifest.frame}"
        cv2.putText(name, words, (2, WORDS - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        rows += [name, np.concatenate(pictures, axis=1)]
    return np.concatenate(rows, axis=0)


def _pictures(evaluation: Evaluation, picked: Sequence[str], size: tuple[int, int], workers: int) -> list[np.ndarray]:
    how = measure(evaluation)
    entries = {entry.image_id: entry for entry in evaluation.predictions.entries}
    boxes = {image_id: entry.box for image_id, entry in entries.items()}
    if how.protocol is not None:
        threshold = (how.thresholds[how.start],)
        judged = judge(evaluation.predictions, evaluation.samples, how.protocol, threshold, workers=workers)
        boxes = {one.entry.image_id: one.scores.boxes[0] for one in judged}
    pictures = []
    for image_id in picked:
        sample, entry = evaluation.samples[image_id], entries[image_id]
        localization_map = evaluation.predictions.map(entry) if evaluation.predictions.has_maps else None
        picture = read_rgb(sample.path)
        stored = (picture.shape[1], picture.shape[0])
        truth = sample.boxes * np.tile(np.divide(stored, sample.size), 2)  # pixels of the size that is declared
        frame = replace(entry.frame, original=stored)
        _, overlay = draw(picture, frame, localization_map, boxes[image_id], truth, 2 * max(size))
        small = cv2.resize(overlay, size, interpolation=cv2.INTER_AREA)
        pictures.append(cv2.copyMakeBorder(small, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return pictures


def main() -> None:
    """Run the command line."""
    options = parse(Sheet, prog="python -m common.report.sheet", description=__doc__)
    options.need_runs()
    check_ending(options.out)
    if options.out.exists() and not options.overwrite:
        raise UserError(
            "the picture is there already", where=options.out, do="choose another --out, or say --overwrite"
        )
    evaluations, _ = evaluate(options, need_boxes=False)
    picture = sheet(evaluations, options.images, options.width, options.workers, options.ids)
    write_atomically(options.out, lambda file: file.write(encode(picture, options.out.suffix)))
    print(options.out.resolve())


if __name__ == "__main__":
    run_command(main)
