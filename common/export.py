"""Predictions for other programs, and the audit: a line an image and protocol, to recount every figure from.

    python -m common.export runs/cam/test/crop --validation runs/cam/held/crop --out exported

writes, below a folder for each predictions directory:

    export.json     whose predictions these are, and which images the network was trained or chosen on
    audit.csv       image, protocol, IoU criterion, threshold and its source, predicted and closest true box, what
                    their pixels are of, IoU, counted, hit, class right among one and five, trained on or not
    boxes.csv       image, class, one box in pixels of the original image, its threshold and where that comes from,
                    the five classes
    coco.json       ground truth in COCO's format: images, annotations, categories
    coco_results.json  the boxes of boxes.csv in COCO's results format
    metadata/       wsolevaluation's four files; its score maps are the predictions' own maps/ folder, in the frame
                    `resize 224`

boxes.csv and coco_results.json hold the boxes that were stored when the images were localized, or with --boxes-at those
that a protocol finds at its validated, released or oracle threshold; every line says which. Boxes are `x0 y0 x1 y1`,
end-exclusive; COCO's are `x y width height`. pycocotools' COCOeval at IoU 0.5 then counts Top-1 localization, and with
useCats = 0 GT-known. In the two CSV files, an image id that a spreadsheet would take for a formula has `./` before it.

    python -m common.export runs/cam/train/squash runs/cam/test/squash --validation runs/cam/held/squash \\
        --format yolo --out birds

writes a data set for a detector instead: images, the boxes found in them with their classes and scores, and the splits,
in COCO's, Ultralytics', Pascal VOC's, labelme's or wsolevaluation's layout, or as a table; common/exporting/formats.py
lists the files.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from common.datasets.layouts import wsoleval
from common.exporting.dataset import MANIFEST, DetectionOptions, export_dataset, manifest
from common.exporting.evaluated import AUDIT, BOXES, ExportedBoxes, audit_rows, box_rows, coco, in_original
from common.measuring.protocols import PROTOCOLS
from common.results.audit import judge
from common.results.evaluation import Evaluation, EvaluationOptions, evaluate
from common.results.rows import GALLERY_ORDER, Row
from common.results.scoring import frame_of_truth
from common.results.tables import leakage_lines
from common.system.errors import UserError, run_command, say
from common.system.files import write_json, write_text
from common.system.locks import hold, release
from common.system.options import parse

NAMES = (MANIFEST, "audit.csv", "boxes.csv", "coco.json", "coco_results.json", "metadata")
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Export(EvaluationOptions):
    """Write predictions for other programs, and a line an image and protocol to recount figures from."""

    out: Path = Path("exported")
    """Folder for the files; those that are there already are not overwritten."""
    format: Literal["evaluation", "coco", "yolo", "voc", "labelme", "csv", "wsoleval"] = "evaluation"
    """evaluation: the files above. Any other: a data set of predicted boxes for a detector to train on, in which each
    predictions directory is a split."""
    detection: tyro.conf.OmitArgPrefixes[DetectionOptions] = field(default_factory=DetectionOptions)
    """Rules by which boxes are made with another --format."""
    measure: bool = False
    """Compare a detector's data set with the true boxes of images that have some: CorLoc, whether scores sort good
    boxes from bad, and with --regions all average precision, for which pycocotools must be installed."""
    boxes_at: Literal["auto", "stored", "validation", "pseudo", "released", "oracle"] = "auto"
    """Boxes that are written: those stored with the predictions, or a protocol's at its threshold from this source.
    auto: validation for a detector's data set, or pseudo where --pseudo is given; otherwise stored."""
    boxes_of: str | None = None
    """The protocol of --boxes-at; by default the one that the page's gallery takes."""
    audit_pixels: Literal["frame", "original"] = "frame"
    """Pixels that audit.csv's boxes are given in: those of the protocol's frame, or of the original image."""
    overwrite: bool = False
    """Replace files that are there already."""


def boxes_to_export(evaluation: Evaluation, options: Export) -> ExportedBoxes:
    """The boxes that `--boxes-at` asks for.

    Raises:
        UserError: no protocol has a threshold from that source.
    """
    entries = evaluation.predictions.entries
    if options.boxes_at in ("auto", "stored"):
        boxes = {entry.image_id: entry.box for entry in entries}
        threshold, source, name = {entry.image_id: entry.threshold for entry in entries}, "stored", ""
    else:
        row = _row_of(evaluation, options)
        at = row.thresholds[row.criterion_of_half()]
        protocol = PROTOCOLS[row.protocol]
        one = replace(protocol, extractor=protocol.extractor.of_one_region())  # of several, truth would choose the box
        judged = judge(evaluation.predictions, evaluation.samples, one, (at,), options.count_missing, options.workers)
        boxes = {one.entry.image_id: one.scores.boxes[0] for one in judged}
        threshold, source, name = dict.fromkeys(boxes, at), row.source, row.protocol
    samples = evaluation.samples
    original = {
        entry.image_id: in_original(boxes[entry.image_id], frame_of_truth(entry, samples[entry.image_id]))
        for entry in entries
        if entry.image_id in boxes
    }
    return ExportedBoxes(original, threshold, source, name)


def _row_of(evaluation: Evaluation, options: Export) -> Row:
    """The result line whose threshold `--boxes-at` and `--boxes-of` name."""
    names = GALLERY_ORDER if options.boxes_of is None else (options.boxes_of,)
    rows = {row.protocol: row for row in evaluation.rows if row.source == options.boxes_at}
    found = next((rows[name] for name in names if name in rows), None)
    if found is None:
        sources = sorted({f"{row.protocol} {row.source}" for row in evaluation.rows})
        do = "give --validation" if options.boxes_at == "validation" else None
        raise UserError(
            f"no {options.boxes_at} threshold for {' or '.join(names)}",
            where=evaluation.predictions.directory,
            expected=f"one of {', '.join(sources)}",
            do=do,
        )
    return found


def export(evaluation: Evaluation, folder: Path, options: Export) -> list[Path]:
    """Write one predictions directory's files below `folder`, and name them.

    Raises:
        UserError: one of them is there already.
    """
    _refuse_earlier([folder], options)
    boxes = boxes_to_export(evaluation, options)
    rows = audit_rows(evaluation, options.count_missing, options.workers, options.audit_pixels)
    write_json(folder / MANIFEST, {"splits": {evaluation.dataset.split: manifest(evaluation.predictions)}})
    write_text(folder / "audit.csv", _csv(AUDIT, rows))
    write_text(folder / "boxes.csv", _csv(BOXES, box_rows(evaluation, boxes)))
    truth, results = coco(evaluation, boxes)
    write_json(folder / "coco.json", truth)
    write_json(folder / "coco_results.json", results)
    if metadata_problem(evaluation) is None:
        wsoleval.write(evaluation.dataset, folder / "metadata")
    return [folder / name for name in NAMES if (folder / name).exists()]


def metadata_problem(evaluation: Evaluation) -> UserError | None:
    """Why wsolevaluation's metadata can't hold a data set, None where it can."""
    try:
        wsoleval.texts(evaluation.dataset)
    except UserError as problem:
        return problem
    return None


def _refuse_earlier(folders: Sequence[Path], options: Export) -> None:
    for path in (folder / name for folder in folders for name in NAMES):
        if path.exists() and not options.overwrite:
            raise UserError("the file is there already", where=path,
                            do="choose another --out, or say --overwrite")  # fmt: skip


def export_all(evaluations: Sequence[Evaluation], options: Export) -> list[Path]:
    """Write each directory\'s files, in `options.out` or a folder of its own there.

    Until all are written a file says so, and the same command replaces what a stopped one left.
    """
    hold(options.out)
    unfinished = options.out / UNFINISHED
    named = [f"{number}-{one.predictions.directory.name}" for number, one in enumerate(evaluations, start=1)]
    folders = [options.out] if len(named) == 1 else [options.out / name for name in named]
    if unfinished.exists():
        options = replace(options, overwrite=True)
    _refuse_earlier(folders, options)
    for one in evaluations:
        if problem := metadata_problem(one):
            say([f"note: {one.predictions.directory}: no metadata/ is written: {problem}"])
    write_text(unfinished, "python -m common.export has not finished here.\n")
    paths = [path for one, folder in zip(evaluations, folders, strict=True) for path in export(one, folder, options)]
    unfinished.unlink()
    release(options.out)
    return paths


def _csv(head: Sequence[str], rows: Iterator[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Run the command line."""
    options = parse(Export, prog="python -m common.export", description=__doc__)
    options.need_runs()
    if options.format != "evaluation":
        chosen = "pseudo" if options.pseudo else "validation"
        boxes_at = chosen if options.boxes_at == "auto" else options.boxes_at
        say(
            export_dataset(
                options,
                options.detection,
                options.format,
                options.out,
                options.overwrite,
                boxes_at,
                options.boxes_of,
                options.measure,
            )
        )
        return
    if options.measure:
        raise UserError("--measure without a detector's --format", expected="--format coco, yolo, voc ...",
                        do="take common.evaluate for the accuracies of these predictions")  # fmt: skip
    evaluations, _ = evaluate(options, need_boxes=False)
    say(leakage_lines(evaluations))
    for path in export_all(evaluations, options):
        print(path)


if __name__ == "__main__":
    run_command(main)
