"""Scores a segmentation run: mean IoU at every threshold of its class maps, or of its masks.

Each result line says where its threshold came from:

    released     0.30, which BAS's released code reads class maps at elsewhere
    validation   the best on the validation run, read on these images
    oracle       the best on these very images, hence optimistic; what the released code prints
    none         masks have none

The best is one of 0.20, 0.21, ... 0.44, as in the released code, or with the whole sweep of 0.00, 0.01, ... 0.99.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from common.datasets import Sample
from common.datasets.checks import MANY_STRANGE
from common.datasets.label_maps import true_label_map
from common.measuring.extraction import largest_component
from common.measuring.segmentation import (
    BACKGROUND,
    IGNORE,
    SWEEPS,
    SegmentationEvaluator,
    SegmentationResult,
    label_map,
)
from common.pictures.images import ImageError, is_turned
from common.results.box_quality import Found, Place, corloc
from common.runs.segmentation import SegmentationPredictions, SegmentedImage
from common.system.errors import UserError, say
from common.system.parallel import in_processes
from common.system.progress import bar
from common.system.wording import number_of, some

RELEASED_THRESHOLD = 0.30
CHUNK = 20
"""Images that a process scores at a time."""


@dataclass(frozen=True, eq=False)
class SegmentationRow:
    """One result line.

    Attributes:
        source: where the threshold came from, see the module.
        result: what was counted.
    """

    source: str
    result: SegmentationResult


@dataclass(frozen=True, eq=False)
class SegmentationEvaluation:
    """All results of one segmentation run.

    Attributes:
        predictions: as read.
        split: that was scored.
        results: by threshold, or one for masks.
        rows: the result lines.
        left_out: number of images without a result, by reason.
        corloc: CorLoc in percent, where it was asked for and there are true boxes.
        pairs: of image and class that it is counted over.
    """

    predictions: SegmentationPredictions
    split: str
    results: list[SegmentationResult]
    rows: tuple[SegmentationRow, ...]
    left_out: dict[str, int]
    corloc: float | None = None
    pairs: int = 0

    @property
    def shown(self) -> SegmentationRow:
        """The result line that stands for the run: the validation's threshold, else the first."""
        return next((row for row in self.rows if row.source == "validation"), self.rows[0])

    @property
    def names(self) -> tuple[str, ...]:
        """Background and the classes, in the order of the confusion matrix."""
        return (BACKGROUND, *self.predictions.class_names)


def evaluate_segmentation(
    runs: Sequence[Path],
    validation: Sequence[Path] = (),
    root: Path | None = None,
    workers: int = 2,
    split: str | None = None,
    boxes: bool = False,
    sweep: str = "released",
) -> list[SegmentationEvaluation]:
    """Everything that `common.evaluate` says of segmentation runs.

    Args:
        runs: predictions directories.
        validation: runs of class maps on held-out images, of the same checkpoints, to choose thresholds on.
        root: the data set's folder, where it has moved.
        workers: processes.
        split: score only the runs' images that this split of their data set has, such as train of train_aug's.
        boxes: measure CorLoc too, of the box of each class's largest region at the threshold that stands for the run.
        sweep: thresholds of class maps, one of `SWEEPS`.

    Raises:
        UserError: a directory that is none, a validation run on the very images, of no run, or of the same checkpoints
            as another, or images without a label map.
    """
    opened = [SegmentationPredictions.open(path) for path in runs]
    keys = {_key(each) for each in opened if each.kind == "maps"}
    chosen: _Chosen = {}
    for path in validation:
        held = SegmentationPredictions.open(path)
        if held.kind != "maps" or _key(held) not in keys:
            raise UserError("validation predictions of other checkpoints or options than any run's", where=path,
                            do="make class maps with the networks and options of the run")  # fmt: skip
        if _key(held) in chosen:
            raise UserError("two validation runs are of the same checkpoints and options", where=path,
                            expected=f"one, such as {chosen[_key(held)][0].directory}")  # fmt: skip
        chosen[_key(held)] = (held, score_segmentation(held, root, workers, sweep=sweep))
    found = [_evaluation(each, chosen, root, workers, split, sweep) for each in opened]
    return [_with_corloc(each, root, workers, split) for each in found] if boxes else found


def _key(predictions: SegmentationPredictions) -> tuple[str, str]:
    """Entries that a run shares with its validation run: checkpoints and options."""
    return str(predictions.manifest.get("checkpoint")), str(predictions.manifest.get("options"))


_Chosen = dict[tuple[str, str], tuple[SegmentationPredictions, tuple[SegmentationEvaluator, dict[str, int]]]]
"""Validation runs by `_key`, with their counts and what is not in them."""


def _evaluation(
    predictions: SegmentationPredictions,
    chosen: _Chosen,
    root: Path | None,
    workers: int,
    split: str | None,
    sweep: str,
) -> SegmentationEvaluation:
    evaluator, left_out = score_segmentation(predictions, root, workers, split, sweep)
    results = evaluator.compute()
    if not evaluator.thresholds:
        rows = [SegmentationRow("none", results[0])]
    else:
        by_threshold = [result.miou for result in results]
        best = int(np.argmax(by_threshold))
        say(_at_the_end(predictions.directory, evaluator.thresholds, by_threshold, sweep))
        rows = [SegmentationRow("released", results[evaluator.thresholds.index(RELEASED_THRESHOLD)])]
        if _key(predictions) in chosen:
            held, (held_evaluator, _) = chosen[_key(predictions)]
            if {entry.image_id for entry in held.entries} & {entry.image_id for entry in predictions.entries}:
                raise UserError("the validation run has images of the run that it chooses the threshold for",
                                where=held.directory, do="make its maps on held-out images")  # fmt: skip
            on_held = [result.miou for result in held_evaluator.compute()]
            if not np.isnan(on_held).all():  # no pixel of it counts
                say(_at_the_end(held.directory, evaluator.thresholds, on_held, sweep))
                rows.append(SegmentationRow("validation", results[int(np.nanargmax(on_held))]))
        rows.append(SegmentationRow("oracle", results[best]))
    split = split or str(predictions.manifest.split)
    return SegmentationEvaluation(predictions, split, results, tuple(rows), left_out)


def _at_the_end(directory: Path, thresholds: Sequence[float], miou: Sequence[float], sweep: str) -> list[str]:
    """A note where the best threshold is an end of the released sweep, and better than the one beside it."""
    for end, beside in ((0, 1), (-1, -2)):
        if sweep == "released" and miou[end] > miou[beside] and miou[end] == np.nanmax(miou):
            what = f"the best threshold is {thresholds[end]:.2f}, with which the released sweep ends"
            return [f"note: {directory}: {what}; common.evaluate --sweep whole looks at 0.00 to 0.99"]
    return []


def score_segmentation(
    predictions: SegmentationPredictions,
    root: Path | None = None,
    workers: int = 2,
    split: str | None = None,
    sweep: str = "released",
) -> tuple[SegmentationEvaluator, dict[str, int]]:
    """Count a run's pixels; arguments as `evaluate_segmentation`.

    Returns:
        The evaluator, with thresholds where the run holds class maps; and how many images are not in it, by reason.

    Raises:
        UserError: none of the images has a label map, or a file is damaged.
    """
    samples = {sample.image_id: sample for sample in predictions.dataset(root)}
    wanted = set(samples if split is None else (each.image_id for each in predictions.other_split(split, root)[1]))
    left_out = Counter(reason for image_id, reason in predictions.skipped.items() if image_id in wanted)
    if absent := len(wanted - samples.keys()):
        left_out[f"not in the split {predictions.manifest.split} that the run is on"] += absent
    jobs = []
    for entry in predictions.entries:
        if entry.image_id not in wanted:
            continue
        if samples[entry.image_id].truth is None:
            left_out["no label map"] += 1
        else:
            jobs.append((entry, samples[entry.image_id]))
    if not jobs:
        raise UserError(f"none of its images{f' of {split}' if split else ''} has a label map",
                        where=predictions.directory)  # fmt: skip
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    evaluator = _evaluator(predictions, sweep)
    counted = in_processes(partial(_count, predictions, sweep), chunks, workers)
    strange: list[str] = []
    turned: list[str] = []
    for part, of_other_classes, by_exif in bar(counted, total=len(chunks), desc="scoring", unit="chunk"):
        evaluator.merge(part)
        strange += of_other_classes
        turned += by_exif
    if turned:
        images = number_of(len(turned), f"of {len(jobs)} images has", f"of {len(jobs)} images have")
        say([f"note: {predictions.directory}: {images} an EXIF tag that viewers obey: {some(turned, 1)}; pictures are "
             "read as stored, and their label maps must be so too"])  # fmt: skip
    if len(strange) > MANY_STRANGE * len(jobs):
        say([f"note: {predictions.directory}: the label maps of {len(strange)} of {len(jobs)} images hold none of the "
             f"classes that the images are of, {strange[0]} among them; their numbers are 0 for background, class + 1, "
             f"and {IGNORE} for pixels that are not counted"])  # fmt: skip
    return evaluator, dict(left_out)


def _with_corloc(
    evaluation: SegmentationEvaluation, root: Path | None, workers: int, split: str | None
) -> SegmentationEvaluation:
    """The evaluation with CorLoc added; an object's class whose region is nowhere is a miss."""
    predictions = evaluation.predictions
    dataset = predictions.dataset(root) if split is None else predictions.other_split(split, root)[1]
    entries = {entry.image_id: entry for entry in predictions.entries}
    truth: dict[Place, list[tuple[float, ...]]] = {}
    for sample in dataset:
        for label, box in sample.objects if sample.image_id in entries else ():
            truth.setdefault((sample.image_id, label), []).append(box)
    if not truth:
        return evaluation
    wanted = [entries[image_id] for image_id in dict.fromkeys(image_id for image_id, _ in truth)]
    chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
    regions = in_processes(partial(_regions, predictions, evaluation.shown.result.threshold), chunks, workers)
    found = {}
    for part in bar(regions, total=len(chunks), desc="boxes", unit="chunk"):
        found.update(part)
    share = corloc(found, {place: np.array(boxes) for place, boxes in truth.items()})
    return replace(evaluation, corloc=share, pairs=len(truth))


def _regions(
    predictions: SegmentationPredictions, threshold: float | None, entries: Sequence[SegmentedImage]
) -> dict[Place, Found]:
    """The box of each class's largest region in each image's label map."""
    found = {}
    for entry in entries:
        if predictions.kind == "maps":
            classes, _, high = predictions.maps(entry)
            labels = label_map(high, classes, float(threshold or 0))
        else:
            labels = predictions.mask(entry)
        for label in entry.labels:
            boxes = largest_component((labels == label + 1).astype(np.uint8))
            found[entry.image_id, label] = Found(boxes, np.ones(len(boxes)))
    return found


def _evaluator(predictions: SegmentationPredictions, sweep: str) -> SegmentationEvaluator:
    return SegmentationEvaluator(len(predictions.class_names), SWEEPS[sweep] if predictions.kind == "maps" else ())


def _count(
    predictions: SegmentationPredictions, sweep: str, jobs: Sequence[tuple[SegmentedImage, Sample]]
) -> tuple[SegmentationEvaluator, list[str], list[str]]:
    """The counts, and ids of images in whose label map none of their classes is, and of those that EXIF turns."""
    evaluator, strange, turned = _evaluator(predictions, sweep), [], []
    for entry, sample in jobs:
        truth = true_label_map(sample, len(predictions.class_names))
        if truth.shape[::-1] != tuple(entry.size):
            raise UserError(f"{entry.image_id}'s label map is {truth.shape[1]}x{truth.shape[0]}",
                            where=predictions.directory, expected="x".join(map(str, entry.size)))  # fmt: skip
        if predictions.kind == "maps":
            classes, _, high = predictions.maps(entry)
            evaluator.accumulate_maps(high, classes, truth)
        else:
            evaluator.accumulate(predictions.mask(entry), truth)
        if not np.isin(np.array(sample.labels) + 1, truth).any():
            strange.append(entry.image_id)
        with suppress(ImageError):  # that the photograph is gone since is no matter of the label map
            turned += [entry.image_id] if is_turned(sample.path) else []
    return evaluator, strange, turned
