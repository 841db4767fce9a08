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

import numpy as np
import tyro

from common.datasets import wsoleval
from common.exporting.dataset import MANIFEST, DetectionOptions, export_dataset, manifest
from common.measuring.boxes import pairwise_iou
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS, Protocol
from common.runs import leakage
from common.runs.audit import judge
from common.runs.evaluation import GALLERY_ORDER, Evaluation, EvaluationOptions, Row, evaluate
from common.runs.scoring import frame_of_truth
from common.runs.tables import leakage_lines
from common.system.errors import UserError, run_command, say
from common.system.files import write_json, write_text
from common.system.locks import hold, release
from common.system.options import parse

AUDIT = ("image_id", "label", "protocol", "criterion", "threshold", "source", "x0", "y0", "x1", "y1",
         "true_x0", "true_y0", "true_x1", "true_y1", "iou", "counted", "hit", "top1_right", "top5_right",
         "pixels", "trained_on", "leakage")  # fmt: skip
NAMES = (MANIFEST, "audit.csv", "boxes.csv", "coco.json", "coco_results.json", "metadata")
UNFINISHED = ".unfinished"
BOXES = (
    "image_id",
    "label",
    "x0",
    "y0",
    "x1",
    "y1",
    "threshold",
    "top5",
    "top5_scores",
    "source",
    "protocol",
    "pixels",
    "trained_on",
    "leakage",
)


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
    boxes_at: Literal["auto", "stored", "validation", "released", "oracle"] = "auto"
    """Boxes that are written: those stored with the predictions, or a protocol's at its threshold from this source.
    auto: validation for a detector's data set, else stored."""
    boxes_of: str | None = None
    """The protocol of --boxes-at; by default the one that the page's gallery takes."""
    audit_pixels: Literal["frame", "original"] = "frame"
    """Pixels in which audit.csv's boxes are: of the frame that the protocol measures in, or the original image."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True)
class Boxes:
    """One box an image, and how it was cut.

    Attributes:
        by_image: (4,) in pixels of the original image by image id, None where nothing was found.
        threshold: by image id.
        source: `stored`, or where the threshold was chosen.
        protocol: whose boxes they are; empty for stored ones.
    """

    by_image: dict[str, np.ndarray | None]
    threshold: dict[str, float]
    source: str
    protocol: str


def boxes_to_export(evaluation: Evaluation, options: Export) -> Boxes:
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
        judged = judge(evaluation.predictions, evaluation.samples, PROTOCOLS[row.protocol], (at,),
                       options.count_missing, options.workers)  # fmt: skip
        boxes = {one.entry.image_id: one.scores.boxes[0] for one in judged}
        threshold, source, name = dict.fromkeys(boxes, at), row.source, row.protocol
    samples = evaluation.samples
    original = {
        entry.image_id: _in_original(boxes[entry.image_id], frame_of_truth(entry, samples[entry.image_id]))
        for entry in entries
        if entry.image_id in boxes
    }
    return Boxes(original, threshold, source, name)


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


def _in_original(box: np.ndarray | None, frame: Frame) -> np.ndarray | None:
    return None if box is None else frame.to_original(box)[0]


def audit_rows(evaluation: Evaluation, count_missing: bool, workers: int, pixels: str = "frame") -> Iterator[list[Any]]:
    """The cells of `AUDIT`: every result line's images, at that line's threshold for each criterion."""
    for row in evaluation.rows:
        protocol = PROTOCOLS[row.protocol]
        for number, threshold in enumerate(row.thresholds):
            yield from _audit_one(evaluation, row, protocol, number, threshold, count_missing, workers, pixels)


def _audit_one(
    evaluation: Evaluation,
    row: Row,
    protocol: Protocol,
    number: int,
    threshold: float,
    count_missing: bool,
    workers: int,
    pixels: str,
) -> Iterator[list[Any]]:
    leak = leakage.of(evaluation.predictions)
    for judged in judge(evaluation.predictions, evaluation.samples, protocol, (threshold,), count_missing, workers):
        entry, scores = judged.entry, judged.scores
        shown = row.threshold if row.source == "stored" else threshold
        box, truth = scores.boxes[0], _closest(scores.ground_truth, scores.boxes[0], protocol)
        if pixels == "original":
            frame = frame_of_truth(entry, evaluation.samples[entry.image_id])
            box, truth = _in_original(box, frame), _in_original(truth, frame)
        right = ["", ""] if not entry.top5 else [int(entry.top5[0] == entry.label), int(entry.label in entry.top5[:5])]
        yield [
            _no_formula(entry.image_id), entry.label, protocol.name, protocol.criteria[number], f"{shown:.6g}",
            row.source, *_cells(box), *_cells(truth), f"{scores.iou[0]:.6f}", int(judged.counted[0]),
            int(judged.correct[0, number]), *right, pixels, *_leak_cells(leak, entry.image_id),
        ]  # fmt: skip


def _closest(ground_truth: np.ndarray, box: np.ndarray | None, protocol: Protocol) -> np.ndarray | None:
    if len(ground_truth) == 0:
        return None
    return ground_truth[0 if box is None else int(pairwise_iou(box[None], ground_truth, protocol.iou)[0].argmax())]


def _leak_cells(leak: leakage.Leakage, image_id: str) -> list[Any]:
    """Whether the network was trained on this image, 1 or 0, empty where that is unknown; and on how many of all."""
    seen = leak.of_image(image_id)
    return ["" if seen is None else int(seen), leak.text]


def _no_formula(image_id: str) -> str:
    """The same path, in a cell that a spreadsheet shows and does not calculate."""
    return f"./{image_id}" if image_id.startswith(("=", "+", "-", "@")) else image_id


def _cells(box: np.ndarray | None) -> list[Any]:
    return [""] * 4 if box is None else [f"{value:.6g}" for value in box]


def box_rows(evaluation: Evaluation, boxes: Boxes) -> Iterator[list[Any]]:
    """The cells of `BOXES`, in pixels of the original image."""
    leak = leakage.of(evaluation.predictions)
    for entry in evaluation.predictions.entries:
        top5, scores = entry.top5 or (), entry.top5_scores or ()
        yield [_no_formula(entry.image_id), entry.label, *_cells(boxes.by_image[entry.image_id]),
               f"{boxes.threshold[entry.image_id]:.6g}", " ".join(map(str, top5)),
               " ".join(f"{score:.6g}" for score in scores), boxes.source, boxes.protocol, "original",
               *_leak_cells(leak, entry.image_id)]  # fmt: skip


def coco(evaluation: Evaluation, boxes: Boxes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and boxes as COCO writes them; a result's category is the predicted class, if any.

    Categories are the data set's classes, and any other class that was predicted.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    leak = leakage.of(evaluation.predictions)
    numbers = {image_id: number for number, image_id in enumerate(evaluation.samples, start=1)}
    for image_id, sample in evaluation.samples.items():
        width, height = sample.known_size() or (None, None)
        images.append({"id": numbers[image_id], "file_name": image_id, "width": width, "height": height})
        for box in sample.boxes:
            annotations.append({
                "id": len(annotations) + 1, "image_id": numbers[image_id], "category_id": sample.label,
                "bbox": _corner_and_sides(box), "area": float((box[2] - box[0]) * (box[3] - box[1])), "iscrowd": 0,
            })  # fmt: skip
    for entry in evaluation.predictions.entries:
        box = boxes.by_image[entry.image_id]
        if box is not None:
            results.append({
                "image_id": numbers[entry.image_id],
                "category_id": entry.top5[0] if entry.top5 else entry.label,
                "bbox": _corner_and_sides(box),
                "score": float(entry.top5_scores[0]) if entry.top5_scores else 1.0,
                "threshold": boxes.threshold[entry.image_id], "threshold_from": boxes.source,
                "protocol": boxes.protocol, "trained_on": leak.of_image(entry.image_id),
            })  # fmt: skip
    names = dict(enumerate(evaluation.dataset.class_names))
    others = {result["category_id"] for result in results} - names.keys()
    names.update({label: f"class {label}, which the data set lacks" for label in sorted(others)})
    info = {"description": f"{evaluation.dataset.name} {evaluation.dataset.split}: true boxes, x y width height in "
                           "pixels of the original image", "leakage": leak.text}  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in names.items()]
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}, results


def _corner_and_sides(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]


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
    if not options.runs:
        raise UserError("no predictions directory was named", do="name one or more")
    if options.format != "evaluation":
        boxes_at = "validation" if options.boxes_at == "auto" else options.boxes_at
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
