"""Predictions for other programs, and the audit: a line an image and protocol, to recount every figure from.

    python -m common.export runs/cam/test/crop --validation runs/cam/held/crop --out exported

writes, below a folder for each predictions directory:

    audit.csv       image, protocol, IoU criterion, threshold and its source, predicted and closest true box in the
                    frame, IoU, counted, hit, class right among one and five
    boxes.csv       image, class, the stored box in pixels of the original image, its threshold, the five classes
    coco.json       ground truth in COCO's format: images, annotations, categories
    coco_results.json  the stored boxes in COCO's results format
    metadata/       wsolevaluation's four files; its score maps are the predictions' own maps/ folder, in the frame
                    `resize 224`

Boxes are `x0 y0 x1 y1`, end-exclusive; COCO's are `x y width height`. In the two CSV files, an image id that a
spreadsheet would take for a formula has `./` before it.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from common.datasets import wsoleval
from common.measuring.boxes import pairwise_iou
from common.measuring.protocols import PROTOCOLS, Protocol
from common.runs.audit import judge
from common.runs.evaluation import Evaluation, EvaluationOptions, Row, evaluate
from common.runs.scoring import frame_of_truth
from common.system.errors import UserError, run_command
from common.system.files import write_json, write_text

AUDIT = ("image_id", "label", "protocol", "criterion", "threshold", "source", "x0", "y0", "x1", "y1",
         "true_x0", "true_y0", "true_x1", "true_y1", "iou", "counted", "hit", "top1_right", "top5_right")  # fmt: skip
NAMES = ("audit.csv", "boxes.csv", "coco.json", "coco_results.json", "metadata")
UNFINISHED = ".unfinished"
BOXES = ("image_id", "label", "x0", "y0", "x1", "y1", "threshold", "top5", "top5_scores")


@dataclass(frozen=True)
class Export(EvaluationOptions):
    """Write predictions for other programs, and a line an image and protocol to recount figures from."""

    out: Path = Path("exported")
    """Folder for the files; those that are there already are not overwritten."""
    overwrite: bool = False
    """Replace files that are there already."""


def audit_rows(evaluation: Evaluation, count_missing: bool, workers: int) -> Iterator[list[Any]]:
    """The cells of `AUDIT`: every result line's images, at that line's threshold for each criterion."""
    for row in evaluation.rows:
        protocol = PROTOCOLS[row.protocol]
        for number, threshold in enumerate(row.thresholds):
            yield from _audit_one(evaluation, row, protocol, number, threshold, count_missing, workers)


def _audit_one(
    evaluation: Evaluation,
    row: Row,
    protocol: Protocol,
    number: int,
    threshold: float,
    count_missing: bool,
    workers: int,
) -> Iterator[list[Any]]:
    for judged in judge(evaluation.predictions, evaluation.samples, protocol, (threshold,), count_missing, workers):
        entry, scores = judged.entry, judged.scores
        shown = row.threshold if row.source == "stored" else threshold
        box, truth = scores.boxes[0], _closest(scores.ground_truth, scores.boxes[0], protocol)
        right = ["", ""] if not entry.top5 else [int(entry.top5[0] == entry.label), int(entry.label in entry.top5[:5])]
        yield [
            _no_formula(entry.image_id), entry.label, protocol.name, protocol.criteria[number], f"{shown:.6g}",
            row.source, *_cells(box), *_cells(truth), f"{scores.iou[0]:.6f}", int(judged.counted[0]),
            int(judged.correct[0, number]), *right,
        ]  # fmt: skip


def _closest(ground_truth: np.ndarray, box: np.ndarray | None, protocol: Protocol) -> np.ndarray | None:
    if len(ground_truth) == 0:
        return None
    return ground_truth[0 if box is None else int(pairwise_iou(box[None], ground_truth, protocol.iou)[0].argmax())]


def _no_formula(image_id: str) -> str:
    """The same path, in a cell that a spreadsheet shows and does not calculate."""
    return f"./{image_id}" if image_id.startswith(("=", "+", "-", "@")) else image_id


def _cells(box: np.ndarray | None) -> list[Any]:
    return [""] * 4 if box is None else [f"{value:.6g}" for value in box]


def box_rows(evaluation: Evaluation) -> Iterator[list[Any]]:
    """The cells of `BOXES`: stored boxes in pixels of the original image."""
    for entry in evaluation.predictions.entries:
        frame = frame_of_truth(entry, evaluation.samples[entry.image_id])
        box = None if entry.box is None else frame.to_original(entry.box)[0]
        top5, scores = entry.top5 or (), entry.top5_scores or ()
        yield [_no_formula(entry.image_id), entry.label, *_cells(box), f"{entry.threshold:.6g}",
               " ".join(map(str, top5)), " ".join(f"{score:.6g}" for score in scores)]  # fmt: skip


def coco(evaluation: Evaluation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and stored boxes as COCO writes them; a result's category is the predicted class, if any."""
    images, annotations, results = [], [], []
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
        if entry.box is not None:
            results.append({
                "image_id": numbers[entry.image_id],
                "category_id": entry.top5[0] if entry.top5 else entry.label,
                "bbox": _corner_and_sides(
                    frame_of_truth(entry, evaluation.samples[entry.image_id]).to_original(entry.box)[0]
                ),
                "score": float(entry.top5_scores[0]) if entry.top5_scores else 1.0,
            })  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in enumerate(evaluation.dataset.class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _corner_and_sides(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]


def export(evaluation: Evaluation, folder: Path, options: Export) -> list[Path]:
    """Write one predictions directory's files below `folder`, and name them.

    Raises:
        UserError: one of them is there already.
    """
    _refuse_earlier([folder], options)
    rows = audit_rows(evaluation, options.count_missing, options.workers)
    write_text(folder / "audit.csv", _csv(AUDIT, rows))
    write_text(folder / "boxes.csv", _csv(BOXES, box_rows(evaluation)))
    truth, results = coco(evaluation)
    write_json(folder / "coco.json", truth)
    write_json(folder / "coco_results.json", results)
    wsoleval.write(evaluation.dataset, folder / "metadata")
    return [folder / name for name in NAMES]


def _refuse_earlier(folders: Sequence[Path], options: Export) -> None:
    for path in (folder / name for folder in folders for name in NAMES):
        if path.exists() and not options.overwrite:
            raise UserError("the file is there already", where=path,
                            do="choose another --out, or say --overwrite")  # fmt: skip


def export_all(evaluations: Sequence[Evaluation], options: Export) -> list[Path]:
    """The command: each directory's files, in `options.out` or a folder of its own there.

    Until all are written a file says so, and the same command replaces what a stopped one left.
    """
    unfinished = options.out / UNFINISHED
    named = [f"{number}-{one.predictions.directory.name}" for number, one in enumerate(evaluations, start=1)]
    folders = [options.out] if len(named) == 1 else [options.out / name for name in named]
    if unfinished.exists():
        options = replace(options, overwrite=True)
    _refuse_earlier(folders, options)
    write_text(unfinished, "python -m common.export has not finished here.\n")
    paths = [path for one, folder in zip(evaluations, folders, strict=True) for path in export(one, folder, options)]
    unfinished.unlink()
    return paths


def _csv(head: Sequence[str], rows: Iterator[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """The command line."""
    options = tyro.cli(Export, prog="python -m common.export", description=__doc__)
    if not options.runs:
        raise UserError("no predictions directory was named", do="name one or more")
    evaluations, _ = evaluate(options, need_boxes=False)
    for path in export_all(evaluations, options):
        print(path)


if __name__ == "__main__":
    run_command(main)
