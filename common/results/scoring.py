"""One predictions directory against its ground truth: every protocol's whole curve, and pixel metrics where masks are.

Maps are read once for all protocols; chunks of images are scored in parallel, and the counts do not depend on how.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from common.datasets import Dataset, Sample
from common.datasets.masks import object_and_ignore, why_not
from common.measuring.arrays import Boxes, Floats
from common.measuring.extraction import Extractor
from common.measuring.geometry import Frame
from common.measuring.metrics import ImageScores, LocalizationEvaluator, LocalizationResult, score_boxes
from common.measuring.pixel_metrics import PixelEvaluator, PixelResult
from common.measuring.protocols import Protocol
from common.measuring.sweep import Sweep, is_worth_it
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.errors import UserError, say
from common.system.parallel import in_processes
from common.system.progress import bar
from common.system.wording import number_of


@dataclass(frozen=True)
class Job:
    """Some images of one predictions directory, and how to score them."""

    predictions: Predictions
    samples: Sequence[Sample]
    mask_over: int
    protocols: Sequence[Protocol]
    count_missing: bool
    sweeping: bool


@dataclass(frozen=True)
class Tally:
    """Evaluators, one a protocol, and the pixel evaluator, which needs maps and a mask for each image."""

    boxes: list[LocalizationEvaluator]
    pixels: PixelEvaluator | None

    def merge(self, other: "Tally") -> None:
        """Add what was counted on other images."""
        for ours, theirs in zip(self.boxes, other.boxes, strict=True):
            ours.merge(theirs)
        if self.pixels is not None and other.pixels is not None:
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
        UserError: a map is missing, damaged or of another size, or there are only masks and none is of use.
    """
    samples = {sample.image_id: sample for sample in dataset}
    entries = predictions.entries
    sweeping = predictions.has_maps and is_worth_it(len(entries))
    jobs = []
    for chunk in predictions.chunks():
        wanted = [samples[entry.image_id] for entry in chunk.entries]
        jobs.append(Job(chunk, wanted, dataset.mask_over, protocols, count_missing, sweeping))
    masks = predictions.has_maps and any(samples[entry.image_id].masks for entry in entries)
    total = _new_tally(predictions, protocols, count_missing, masks)
    with bar(total=len(entries), desc=f"scoring {predictions.directory}") as progress:
        for job, tally in zip(jobs, in_processes(partial(_score_chunk, masks=masks), jobs, workers), strict=True):
            total.merge(tally)
            progress.update(len(job.samples))
    results = {evaluator.protocol.name: evaluator.compute() for evaluator in total.boxes}
    if total.pixels is None:
        return results, None
    try:
        return results, total.pixels.compute()
    except ValueError as error:
        reasons = "".join(
            f"; {number_of(count, 'image', 'images')}: {reason}" for reason, count in total.pixels.left_out.items()
        )
        problem = f"{error}{reasons}"
        if not results:
            raise UserError(problem, where=predictions.directory, do="check the data set's masks") from error
        say([f"note: {predictions.directory}: no pixel metrics: {problem}"])
        return results, None


def _new_tally(predictions: Predictions, protocols: Sequence[Protocol], count_missing: bool, masks: bool) -> Tally:
    thresholds = None if predictions.has_maps else [float("nan")]
    evaluators = [LocalizationEvaluator(protocol, thresholds, count_missing) for protocol in protocols]
    return Tally(evaluators, PixelEvaluator() if masks else None)


def _score_chunk(job: Job, masks: bool) -> Tally:
    predictions = job.predictions
    tally = _new_tally(predictions, job.protocols, job.count_missing, masks)
    for entry, sample in zip(predictions.entries, job.samples, strict=True):
        localization_map = predictions.map(entry) if predictions.has_maps else None
        frame = frame_of_truth(entry, sample)
        if len(sample.boxes):
            for evaluator, scores in _scores(tally.boxes, job, localization_map, entry, sample.boxes, frame):
                evaluator.accumulate_scores(scores, frame, entry.label, entry.top5, entry.image_id)
        else:
            for evaluator in tally.boxes:
                evaluator.leave_out(without_boxes(sample))
        if tally.pixels is not None and localization_map is not None:
            _score_pixels(tally.pixels, localization_map, sample, frame, job.mask_over)
    return tally


def _scores(
    evaluators: Sequence[LocalizationEvaluator],
    job: Job,
    localization_map: Floats | None,
    entry: Prediction,
    truth: Boxes,
    frame: Frame,
) -> Iterator[tuple[LocalizationEvaluator, ImageScores]]:
    """One image's scores under each evaluator's protocol; what protocols share is found once."""
    sweep = Sweep(localization_map, job.protocols) if job.sweeping and localization_map is not None else None
    found: dict[tuple[Extractor, tuple[float, ...]], list[Boxes]] = {}
    for evaluator in evaluators:
        protocol = evaluator.protocol
        if sweep is not None:
            yield evaluator, sweep.scores(protocol, frame, truth)
            continue
        key = (protocol.extractor, protocol.sweep)
        if localization_map is None:
            found[key] = [entry.boxes]
        elif key not in found:
            found[key] = protocol.extractor.boxes(localization_map, protocol.sweep)
        yield evaluator, score_boxes(protocol, found[key], frame, truth)


def _score_pixels(
    evaluator: PixelEvaluator, localization_map: Floats, sample: Sample, frame: Frame, mask_over: int
) -> None:
    if not sample.masks:
        evaluator.left_out["no mask"] += 1
        return
    try:
        masks = object_and_ignore(sample, frame, mask_over)
    except UserError as problem:
        evaluator.left_out[why_not(problem)] += 1
        return
    evaluator.accumulate(localization_map, *masks)


def without_boxes(sample: Sample) -> str:
    """Why an image without a box is left out of box metrics."""
    return "no object in the image (negative)" if sample.negative else "no ground-truth box"


def frame_of_truth(entry: Prediction, sample: Sample) -> Frame:
    """The prediction's frame in the image as its annotations know it.

    Boxes are pixels of the size that the annotations declare. A stored picture of another size was resized to the frame
    all the same, so boxes enter the frame by the declared size, whichever framework wrote the prediction.
    """
    if sample.declared_size in (None, tuple(entry.frame.original)):
        return entry.frame
    return replace(entry.frame, original=sample.declared_size)
