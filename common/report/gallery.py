"""The gallery's data: for each pictured image its photograph, and for each run its map and its box at every threshold.

A page must hold thousands of images: maps are shrunk to 28 x 28 bytes, boxes are two or one bytes a coordinate,
and an IoU with its verdict is one byte; `report.js` draws from these.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from common.measuring.protocols import PROTOCOLS, Protocol
from common.pictures.images import ImageError, read_rgb
from common.pictures.overlays import encode_jpeg, rescaled
from common.runs.audit import Judged, judge
from common.runs.evaluation import GALLERY_ORDER, Evaluation, Row
from common.runs.record import Prediction
from common.system.progress import bar

SOURCES = ("validation", "oracle", "stored")
"""Sources of a gallery's thresholds, the first there is."""
STEPS = 50
"""Thresholds a slider has at most."""
MAP_SIDE = 28
"""Side of the maps in the page, in pixels."""
NO_BOX = 65535
"""Every coordinate of a box that is not there; 255 where a coordinate is a byte."""
NOT_COUNTED, UNKNOWN = 127, 126
"""Verdict bytes; any other is 100 times the IoU, plus 128 for a hit."""
IOU_GRID = np.round(np.arange(0, 1.0001, 0.02), 2)


@dataclass(frozen=True)
class Measure:
    """Measure by which the gallery judges one run.

    Attributes:
        protocol: None where there is no ground truth.
        thresholds: the slider's, ascending.
        start: index of the threshold the page opens with.
        source: where that one comes from.
    """

    protocol: Protocol | None
    thresholds: tuple[float, ...]
    start: int
    source: str


def measure(evaluation: Evaluation) -> Measure:
    """The protocol of a run's gallery and the slider's thresholds, among them the one the run is read at."""
    for name in GALLERY_ORDER:
        rows = {row.source: row for row in evaluation.rows if row.protocol == name}
        for source in SOURCES:
            if source in rows:
                return _sliding(PROTOCOLS[name], rows[source], source)
    return Measure(None, (0.0,), 0, "stored")


def _sliding(protocol: Protocol, row: Row, source: str) -> Measure:
    if source == "stored":
        return Measure(protocol, (float(row.threshold or 0.0),), 0, source)
    sweep = np.asarray(protocol.sweep)
    chosen = sweep[np.linspace(0, len(sweep) - 1, min(len(sweep), STEPS)).round().astype(int)]
    thresholds = sorted({*chosen.tolist(), row.thresholds[0]})
    return Measure(protocol, tuple(thresholds), thresholds.index(row.thresholds[0]), source)


@dataclass(frozen=True)
class Verdicts:
    """One image at the slider's T thresholds, in few bytes, because a page may be about 50,000 of them.

    Attributes:
        boxes: (T, 4) uint16 in the frame, `NO_BOX` where nothing was found.
        iou: (T,) float32.
        counted, hit: (T,) bool.
    """

    boxes: np.ndarray
    iou: np.ndarray
    counted: np.ndarray
    hit: np.ndarray


def _verdicts(judged: Judged) -> Verdicts:
    boxes = [_pixels(box) for box in judged.scores.boxes]
    return Verdicts(np.array(boxes), judged.scores.iou.astype(np.float32), judged.counted, judged.correct.any(axis=1))


def _pixels(box: np.ndarray | None) -> np.ndarray:
    return np.full(4, NO_BOX, np.uint16) if box is None else np.clip(np.round(box), 0, NO_BOX - 1).astype(np.uint16)


@dataclass(frozen=True)
class JudgedRun:
    """All images of a run at the slider's thresholds.

    Attributes:
        evaluation: the run.
        measure: how it was judged.
        judged: by image id, empty without ground truth.
    """

    evaluation: Evaluation
    measure: Measure
    judged: dict[str, Verdicts]

    def hit(self, image_id: str) -> bool | None:
        """Whether the image is a hit at the threshold the page opens with; None where nobody can tell."""
        judged = self.judged.get(image_id)
        return None if judged is None else bool(judged.hit[self.measure.start])

    def reach(self) -> np.ndarray:
        """Percent of the counted images whose IoU is at least each value of `IOU_GRID`."""
        at = self.measure.start
        iou = np.array([judged.iou[at] for judged in self.judged.values() if judged.counted[at]])
        return 100.0 * (iou[:, None] >= IOU_GRID - 1e-12).mean(axis=0) if len(iou) else np.full(len(IOU_GRID), np.nan)


def judge_run(evaluation: Evaluation, count_missing: bool, workers: int) -> JudgedRun:
    """Judge every image of a run at the thresholds of its slider."""
    how = measure(evaluation)
    judged: dict[str, Verdicts] = {}
    if how.protocol is not None:
        every = judge(evaluation.predictions, evaluation.samples, how.protocol, how.thresholds, count_missing, workers)
        judged = {one.entry.image_id: _verdicts(one) for one in every}
    return JudgedRun(evaluation, how, judged)


def choose(runs: Sequence[JudgedRun], count: int) -> list[str]:
    """Image ids to picture, in the data's order: where not all fit, half of them misses of the first run."""
    every = dict.fromkeys(entry.image_id for run in runs for entry in run.evaluation.predictions.entries)
    if len(every) <= count:
        return list(every)
    misses = [image_id for image_id in every if runs[0].hit(image_id) is False]
    others = [image_id for image_id in every if runs[0].hit(image_id) is not False]
    some = _spread(misses, max(count // 2, count - len(others)))
    kept = {*some, *_spread(others, count - len(some))}
    return [image_id for image_id in every if image_id in kept]


def _spread(items: list[str], count: int) -> list[str]:
    if len(items) <= count:
        return items
    return [items[int(position)] for position in np.linspace(0, len(items) - 1, count)]


def data(runs: Sequence[JudgedRun], count: int, picture_side: int) -> tuple[dict, int]:
    """Data that the script draws from, as JSON takes it, and how many images could no longer be read.

    Args:
        runs: all of one data set.
        count: images to picture at most.
        picture_side: longest side of a photograph in pixels.
    """
    entries = [{entry.image_id: entry for entry in run.evaluation.predictions.entries} for run in runs]
    images, unreadable = [], 0
    chosen = choose(runs, count)
    for image_id in bar(chosen, total=len(chosen), desc="drawing the gallery"):
        sample = next(run.evaluation.samples[image_id] for run in runs if image_id in run.evaluation.samples)
        try:
            picture = rescaled(read_rgb(sample.path), picture_side)
        except ImageError:
            unreadable += 1
            continue
        looks = [
            None if image_id not in of_run else _look(run, of_run[image_id])
            for run, of_run in zip(runs, entries, strict=True)
        ]
        images.append({
            "id": image_id,
            "label": sample.label,
            "size": list(sample.size),
            "truth": np.asarray(sample.boxes, float).round(1).tolist(),
            "picture": "data:image/jpeg;base64," + _base64(encode_jpeg(picture)),
            "looks": looks,
        })  # fmt: skip
    return {
        "runs": [_run_fields(run) for run in runs],
        "classes": list(runs[0].evaluation.dataset.shown_names),
        "heat": cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].tolist(),
        "images": images,
    }, unreadable


def _run_fields(run: JudgedRun) -> dict:
    manifest = run.evaluation.predictions.manifest
    return {
        "name": run.evaluation.label,
        "directory": str(run.evaluation.predictions.directory),
        "frame": manifest["frame"],
        "protocol": run.measure.protocol.name if run.measure.protocol else None,
        "thresholds": [round(threshold, 4) for threshold in run.measure.thresholds],
        "start": run.measure.start,
        "source": run.measure.source,
        "total": len(run.evaluation.predictions.entries),
        "hits": [
            int(sum(judged.hit[at] for judged in run.judged.values())) for at in range(len(run.measure.thresholds))
        ],
        "counted": [
            int(sum(judged.counted[at] for judged in run.judged.values())) for at in range(len(run.measure.thresholds))
        ],
    }


def _look(run: JudgedRun, entry: Prediction) -> dict:
    """One run's view of one image, in bytes."""
    predictions = run.evaluation.predictions
    judged = run.judged.get(entry.image_id)
    boxes = _pixels(entry.box)[None] if judged is None else judged.boxes
    wide = max(entry.frame.size) > 254
    verdicts = np.full(1, UNKNOWN, np.uint8) if judged is None else _verdict_bytes(judged)
    look = {
        "frame": [*entry.frame.resized, *entry.frame.crop],
        "wide": wide,
        "boxes": _base64((boxes if wide else np.minimum(boxes, 255)).astype("<u2" if wide else np.uint8).tobytes()),
        "verdicts": _base64(verdicts.tobytes()),
        "predicted": entry.top5[0] if entry.top5 else None,
        "score": _score(entry),
    }
    if predictions.has_maps:
        small = cv2.resize(predictions.map(entry), (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
        look["map"] = _base64((np.clip(small, 0, 1) * 255).round().astype(np.uint8).tobytes())
    return look


def _score(entry: Prediction) -> float | None:
    """The classifier's probability of the image's class; None where nobody classified."""
    if entry.top5 is None or entry.top5_scores is None:
        return None
    return round(entry.top5_scores[entry.top5.index(entry.label)], 4) if entry.label in entry.top5 else 0.0


def _verdict_bytes(judged: Verdicts) -> np.ndarray:
    hundredths = np.floor(np.clip(judged.iou, 0, 1) * 100 + 1e-4).astype(np.uint8)
    return np.where(judged.counted, hundredths + 128 * judged.hit, NOT_COUNTED).astype(np.uint8)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
