"""One predictions directory against its ground truth: every protocol's whole curve, and pixel metrics where masks are.

Maps are read once for all protocols; chunks of images are scored in parallel, and the counts do not depend on how.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from common.datasets import Dataset, Sample
from common.datasets.masks import object_and_ignore
from common.measuring.extraction import Extractor
from common.measuring.metrics import LocalizationEvaluator, LocalizationResult, PixelEvaluator, PixelResult
from common.measuring.protocols import Protocol
from common.runs.reader import Predictions
from common.system.errors import UserError
from common.system.parallel import in_processes
from common.system.progress import bar


@dataclass(frozen=True)
class Job:
    """Some images of one predictions directory, and how to score them."""

    predictions: Predictions
    samples: Sequence[Sample]
    mask_over: int
    protocols: Sequence[Protocol]
    count_missing: bool


@dataclass(frozen=True)
class Tally:
    """Evaluators, one a protocol, and the pixel evaluator, which needs maps and a mask for each image."""

    boxes: list[LocalizationEvaluator]
    pixels: PixelEvaluator | None

    def merge(self, other: "Tally") -> None:
        """Add what was counted on other images."""
        for ours, theirs in zip(self.boxes, other.boxes, strict=True):
            ours.merge(theirs)
        if self.pixels is not None:
            self.pixels.merge(other.pixels)


def score(
    predictions: Predictions,
    dataset: Dataset,
    protocols: Sequence[Protocol],
    count_missing: bool = False,
    workers: int = 1,
) -> tuple[dict[str, LocalizationResult], PixelResult | None]:
    """The whole curve of one predictions directory under each protocol, and pixel metrics.

    Args:
        predictions: their maps are cut at every threshold of a protocol; without maps the stored boxes are scored.
        dataset: holds the annotations of every prediction.
        protocols: all of the predictions' frame; none where only pixels are to be scored.
        count_missing: see `LocalizationEvaluator`.
        workers: processes; the counts do not depend on how many.

    Returns:
        Results by protocol; and PxAP and pIoU over the images that were localized, None without maps or masks.

    Raises:
        UserError: a map or mask is missing, damaged or of another size.
    """
    samples = {sample.image_id: sample for sample in dataset}
    entries = predictions.entries
    jobs = []
    for chunk in predictions.chunks():
        wanted = [samples[entry.image_id] for entry in chunk.entries]
        jobs.append(Job(chunk, wanted, dataset.mask_over, protocols, count_missing))
    masks = predictions.has_maps and len(entries) > 0 and all(samples[entry.image_id].masks for entry in entries)
    total = _new_tally(predictions, protocols, count_missing, masks)
    with bar(total=len(entries), desc=f"scoring {predictions.directory}") as progress:
        for job, tally in zip(jobs, in_processes(partial(_score_chunk, masks=masks), jobs, workers), strict=True):
            total.merge(tally)
            progress.update(len(job.samples))
    results = {evaluator.protocol.name: evaluator.compute() for evaluator in total.boxes}
    try:
        return results, None if total.pixels is None else total.pixels.compute()
    except ValueError as error:
        raise UserError(str(error), where=predictions.directory, do="check the data set's masks") from error


def _new_tally(predictions: Predictions, protocols: Sequence[Protocol], count_missing: bool, masks: bool) -> Tally:
    thresholds = None if predictions.has_maps else [float("nan")]
    evaluators = [LocalizationEvaluator(protocol, thresholds, count_missing) for protocol in protocols]
    return Tally(evaluators, PixelEvaluator() if masks else None)


def _score_chunk(job: Job, masks: bool) -> Tally:
    predictions = job.predictions
    tally = _new_tally(predictions, job.protocols, job.count_missing, masks)
    for entry, sample in zip(predictions.entries, job.samples, strict=True):
        localization_map = predictions.map(entry) if predictions.has_maps else None
        found: dict[tuple[Extractor, tuple[float, ...]], list[np.ndarray]] = {}  # protocols share extractors
        for evaluator in tally.boxes:
            protocol = evaluator.protocol
            key = (protocol.extractor, protocol.sweep)
            if localization_map is None:
                boxes = [entry.boxes]
            else:
                if key not in found:
                    found[key] = protocol.extractor.boxes(localization_map, protocol.sweep)
                boxes = found[key]
            evaluator.accumulate_boxes(boxes, entry.frame, sample.boxes, entry.label, entry.top5, entry.image_id)
        if tally.pixels is not None:
            tally.pixels.accumulate(localization_map, *object_and_ignore(sample, entry.frame, job.mask_over))
    return tally
