"""An evaluation's images one by one: the rows of audit.csv and boxes.csv, and what COCO's two files hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.measuring.boxes import pairwise_iou
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS, Protocol
from common.results import leakage
from common.results.audit import Judged, judge
from common.results.evaluation import Evaluation
from common.results.rows import Row
from common.results.scoring import frame_of_truth

AUDIT = ("image_id", "label", "protocol", "criterion", "threshold", "source", "x0", "y0", "x1", "y1",
         "true_x0", "true_y0", "true_x1", "true_y1", "iou", "counted", "hit", "top1_right", "top5_right",
         "pixels", "trained_on", "leakage")  # fmt: skip
"""Columns of audit.csv."""
BOXES = ("image_id", "label", "x0", "y0", "x1", "y1", "threshold", "top5", "top5_scores", "source", "protocol",
         "pixels", "trained_on", "leakage")  # fmt: skip
"""Columns of boxes.csv."""


@dataclass(frozen=True)
class ExportedBoxes:
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


def in_original(box: np.ndarray | None, frame: Frame) -> np.ndarray | None:
    """A box (4,) of a frame in pixels of the original image; None where there is none."""
    return None if box is None else frame.to_original(box)[0]


def audit_rows(evaluation: Evaluation, count_missing: bool, workers: int, pixels: str = "frame") -> Iterator[list[Any]]:
    """The cells of `AUDIT`: every result line's images, at that line's threshold for each criterion."""
    predictions, samples = evaluation.predictions, evaluation.samples
    for row in evaluation.rows:
        for number, threshold in enumerate(row.thresholds):
            judged = judge(predictions, samples, PROTOCOLS[row.protocol], (threshold,), count_missing, workers)
            yield from _audited(evaluation, row, number, judged, pixels)


def _audited(
    evaluation: Evaluation, row: Row, number: int, images: Iterable[Judged], pixels: str
) -> Iterator[list[Any]]:
    """The cells of one result line's images, as judged at its threshold for criterion `number`."""
    protocol = PROTOCOLS[row.protocol]
    shown = row.threshold if row.source == "stored" else row.thresholds[number]
    leak = leakage.of(evaluation.predictions)
    for judged in images:
        entry, scores = judged.entry, judged.scores
        box = scores.boxes[0]
        compared = protocol.missing_box(entry.frame) if box is None else box[None]
        truth = _closest(scores.ground_truth, compared, protocol)
        if pixels == "original":
            frame = frame_of_truth(entry, evaluation.samples[entry.image_id])
            box, truth = in_original(box, frame), in_original(truth, frame)
        right = ["", ""] if not entry.top5 else [int(entry.top5[0] == entry.label), int(entry.label in entry.top5[:5])]
        yield [
            _no_formula(entry.image_id), entry.label, protocol.name, protocol.criteria[number], f"{shown:.6g}",
            row.source, *_cells(box), *_cells(truth), f"{scores.iou[0]:.6f}", int(judged.counted[0]),
            int(judged.correct[0, number]), *right, pixels, *_leak_cells(leak, entry.image_id),
        ]  # fmt: skip


def _closest(ground_truth: np.ndarray, compared: np.ndarray | None, protocol: Protocol) -> np.ndarray | None:
    """The true box that the IoU is with, of a box (1, 4) or what stands in for a missing one; the first without."""
    if len(ground_truth) == 0:
        return None
    return ground_truth[0 if compared is None else int(pairwise_iou(compared, ground_truth, protocol.iou)[0].argmax())]


def _leak_cells(leak: leakage.Leakage, image_id: str) -> list[Any]:
    """Whether the network was trained on this image, 1 or 0, empty where that is unknown; and on how many of all."""
    seen = leak.of_image(image_id)
    return ["" if seen is None else int(seen), leak.text]


def _no_formula(image_id: str) -> str:
    """An image's path as a cell that a spreadsheet shows and does not calculate."""
    return f"./{image_id}" if image_id.startswith(("=", "+", "-", "@")) else image_id


def _cells(box: np.ndarray | None) -> list[Any]:
    return [""] * 4 if box is None else [f"{value:.6g}" for value in box]


def box_rows(evaluation: Evaluation, boxes: ExportedBoxes) -> Iterator[list[Any]]:
    """The cells of `BOXES`, in pixels of the original image."""
    leak = leakage.of(evaluation.predictions)
    for entry in evaluation.predictions.entries:
        top5, scores = entry.top5 or (), entry.top5_scores or ()
        yield [_no_formula(entry.image_id), entry.label, *_cells(boxes.by_image[entry.image_id]),
               f"{boxes.threshold[entry.image_id]:.6g}", " ".join(map(str, top5)),
               " ".join(f"{score:.6g}" for score in scores), boxes.source, boxes.protocol, "original",
               *_leak_cells(leak, entry.image_id)]  # fmt: skip


def coco(evaluation: Evaluation, boxes: ExportedBoxes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
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
