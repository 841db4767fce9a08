"""The gallery's data: for each pictured image its photograph, and for each run its map and its box at every threshold.

A page must hold thousands of images: maps are shrunk to 28 x 28 bytes, boxes are two or one bytes a coordinate,
and an IoU with its verdict is one byte; `report.js` draws from these.
"""

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from common.exporting.detections import cut_of_stored, regions
from common.measuring.protocols import PROTOCOLS, Protocol
from common.pictures.images import ImageError, read_rgb
from common.pictures.overlays import encode_jpeg, rescaled
from common.results.audit import Judged, judge
from common.results.evaluation import Evaluation, set_numbers
from common.results.rows import GALLERY_ORDER, SOURCES, Row
from common.runs.record import Prediction
from common.system.progress import bar

STEPS = 50
"""Thresholds a slider has at most."""
MAP_SIDE = 28
"""Side of the maps in the page, in pixels."""
NO_BOX = 65535
"""Every coordinate of a box that is not there; 255 where a coordinate is a byte."""
NOT_COUNTED, UNKNOWN = 127, 126
"""Verdict bytes; any other is 100 times the IoU, plus 128 for a hit."""
CRITERION = 0.5
"""IoU of a hit, where a protocol has several criteria."""
IOU_GRID = np.round(np.arange(0, 1.0001, 0.02), 2)
ROUNDING = 1e-6
"""More than what IoUs lose in float32, in which 0.7 is a little less."""


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

    def read_at(self) -> str:
        """The threshold that the page opens with and its source, or that boxes without maps are read as they are."""
        return "as stored" if self.source == "stored" else f"@{self.thresholds[self.start]:.3g} {self.source}"


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
    start = row.thresholds[row.criterion_of_half()]
    thresholds = sorted({*chosen.tolist(), start})
    return Measure(protocol, tuple(thresholds), thresholds.index(start), source)


@dataclass(frozen=True)
class Verdicts:
    """One image at the slider's T thresholds, in few bytes, because a page may be about 50,000 of them.

    Attributes:
        boxes: (T, 4) uint16 in the frame, `NO_BOX` where nothing was found.
        iou: (T,) float32.
        counted, hit: (T,) bool; a hit at `CRITERION` where a protocol has several.
    """

    boxes: np.ndarray
    iou: np.ndarray
    counted: np.ndarray
    hit: np.ndarray


def _verdicts(judged: Judged, protocol: Protocol) -> Verdicts:
    boxes = [_pixels(box) for box in judged.scores.boxes]
    hit = judged.correct[:, protocol.criteria.index(CRITERION)]
    return Verdicts(np.array(boxes), judged.scores.iou.astype(np.float32), judged.counted, hit)


def _pixels(box: np.ndarray | None) -> np.ndarray:
    return np.full(4, NO_BOX, np.uint16) if box is None else np.clip(np.round(box), 0, NO_BOX - 1).astype(np.uint16)


@dataclass(frozen=True)
class JudgedRun:
    """All images of a run at the slider's thresholds.

    Attributes:
        evaluation: the run.
        measure: how it was judged.
        judged: by image id, empty without ground truth.
        dataset: number of its images' data set on the page; see `set_numbers`.
    """

    evaluation: Evaluation
    measure: Measure
    judged: dict[str, Verdicts]
    dataset: int = 0

    def hit(self, image_id: str) -> bool | None:
        """Whether the image is a hit at the threshold the page opens with; None where nobody can tell."""
        judged = self.judged.get(image_id)
        return None if judged is None else bool(judged.hit[self.measure.start])

    def reach(self) -> np.ndarray:
        """Percent of the counted images whose IoU is at least each value of `IOU_GRID`."""
        at = self.measure.start
        iou = np.array([judged.iou[at] for judged in self.judged.values() if judged.counted[at]])
        return (
            100.0 * (iou[:, None] >= IOU_GRID - ROUNDING).mean(axis=0) if len(iou) else np.full(len(IOU_GRID), np.nan)
        )


def judge_runs(evaluations: Sequence[Evaluation], count_missing: bool, workers: int) -> list[JudgedRun]:
    """Judge every image of each run at the thresholds of its slider."""
    numbers = set_numbers(evaluations)
    return [_judge_run(*each, count_missing, workers) for each in zip(evaluations, numbers, strict=True)]


def _judge_run(evaluation: Evaluation, number: int, count_missing: bool, workers: int) -> JudgedRun:
    how = measure(evaluation)
    judged: dict[str, Verdicts] = {}
    if how.protocol is not None:
        every = judge(evaluation.predictions, evaluation.samples, how.protocol, how.thresholds, count_missing, workers)
        judged = {one.entry.image_id: _verdicts(one, how.protocol) for one in every}
    return JudgedRun(evaluation, how, judged, number)


Place = tuple[int, str]
"""Number of a data set on the page, and image id."""


def choose(runs: Sequence[JudgedRun], count: int) -> list[Place]:
    """Images to picture, in the data's order: where not all fit, half of them misses of their data set's first run."""
    every = _every(runs)
    if len(every) <= count:
        return every
    first = {run.dataset: run for run in reversed(runs)}
    misses = [place for place in every if first[place[0]].hit(place[1]) is False]
    others = [place for place in every if first[place[0]].hit(place[1]) is not False]
    some = _spread(misses, max(count // 2, count - len(others)))
    kept = {*some, *_spread(others, count - len(some))}
    return [place for place in every if place in kept]


def _every(runs: Sequence[JudgedRun]) -> list[Place]:
    places = ((run.dataset, entry.image_id) for run in runs for entry in run.evaluation.predictions.entries)
    return list(dict.fromkeys(places))


def _spread(items: list[Place], count: int) -> list[Place]:
    if len(items) <= count:
        return items
    return [items[int(position)] for position in np.linspace(0, len(items) - 1, count)]


def data(runs: Sequence[JudgedRun], count: int, picture_side: int) -> tuple[dict, int]:
    """Data that the script draws from, as JSON takes it, and how many images could no longer be read.

    Args:
        runs: of one data set or several; an image stands under the runs of its own.
        count: images to picture at most.
        picture_side: longest side of a photograph in pixels.
    """
    names, number_of = _classes(runs)
    ids = Counter(image_id for _, image_id in _every(runs))
    entries = [{entry.image_id: entry for entry in run.evaluation.predictions.entries} for run in runs]
    images, unreadable = [], 0
    chosen = choose(runs, count)
    for number, image_id in bar(chosen, total=len(chosen), desc="drawing the gallery"):
        mine = [at for at, run in enumerate(runs) if run.dataset == number]
        dataset = runs[mine[0]].evaluation.dataset
        sample = runs[mine[0]].evaluation.samples[image_id]
        try:
            picture = rescaled(read_rgb(sample.path), picture_side)
        except ImageError:
            unreadable += 1
            continue
        looks = [
            _look(run, of_run[image_id], number_of[at]) if at in mine and image_id in of_run else None
            for at, (run, of_run) in enumerate(zip(runs, entries, strict=True))
        ]
        images.append({
            "id": image_id,
            **({"review": f"{dataset.split}/{image_id}"} if ids[image_id] > 1 else {}),
            "label": number_of[mine[0]](sample.label),
            "size": list(sample.size),
            "truth": np.asarray(sample.boxes, float).round(1).tolist(),
            "picture": "data:image/jpeg;base64," + _base64(encode_jpeg(picture)),
            "looks": looks,
        })  # fmt: skip
    return {
        "runs": [_run_fields(run) for run in runs],
        "classes": names,
        "heat": cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].tolist(),
        "images": images,
    }, unreadable


def _classes(runs: Sequence[JudgedRun]) -> tuple[list[str], list[Callable[[int], int]]]:
    """Class names of the page, and of each run the function from its data set's labels to their places there."""
    each = [list(run.evaluation.dataset.shown_names) for run in runs]
    if all(names == each[0] for names in each):
        return each[0], [lambda label: label] * len(runs)
    shown: list[str] = list(dict.fromkeys(name for names in each for name in names))
    place = {name: number for number, name in enumerate(shown)}

    def of(names: list[str]) -> Callable[[int], int]:
        def number_of(label: int) -> int:
            name = names[label] if label < len(names) else f"class {label}"
            if name not in place:  # of a network that knows more classes than its data set has
                place[name] = len(shown)
                shown.append(name)
            return place[name]

        return number_of

    return shown, [of(names) for names in each]


def _run_fields(run: JudgedRun) -> dict:
    manifest = run.evaluation.predictions.manifest
    return {
        "name": run.evaluation.label,
        "directory": str(run.evaluation.predictions.directory),
        "frame": manifest.frame,
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


def _look(run: JudgedRun, entry: Prediction, number_of: Callable[[int], int]) -> dict:
    """One run's view of one image, in bytes; `number_of` turns its labels into the page's."""
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
        "predicted": number_of(entry.top5[0]) if entry.top5 else None,
        "score": _score(entry),
    }
    if predictions.has_maps:
        localization_map = predictions.map(entry)
        look["rival"] = _rival(run, entry, localization_map)
        small = cv2.resize(localization_map, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
        look["map"] = _base64((np.clip(small, 0, 1) * 255).round().astype(np.uint8).tobytes())
    return look


def _rival(run: JudgedRun, entry: Prediction, localization_map: np.ndarray) -> float:
    """The second region's share of the largest one's pixels, at the threshold that the page opens with."""
    if run.measure.protocol is None:
        extractor, threshold = cut_of_stored(localization_map, entry), entry.threshold
    else:
        extractor, threshold = run.measure.protocol.extractor, run.measure.thresholds[run.measure.start]
    pixels = regions(localization_map, extractor, threshold)[:2, 4]
    return round(float(pixels[1] / pixels[0]), 2) if len(pixels) > 1 else 0.0


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
