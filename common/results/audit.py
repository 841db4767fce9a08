"""One image at a time: its box, its IoU and whether it hits, so that every accuracy can be recounted by hand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.datasets import Sample
from common.measuring.arrays import Flags
from common.measuring.metrics import ImageScores, score_boxes
from common.measuring.protocols import Protocol
from common.results.scoring import frame_of_truth
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.parallel import in_processes
from common.system.progress import bar


@dataclass(frozen=True)
class Judged:
    """One image of a predictions directory under one protocol, at T thresholds.

    Attributes:
        entry: the prediction.
        scores: ground truth and boxes in the frame, and their IoU.
        counted: (T,) False where the protocol leaves the image out of its denominator.
        correct: (T, criteria) hit or miss; False where it is not counted.
    """

    entry: Prediction
    scores: ImageScores
    counted: Flags
    correct: Flags


def judge(
    predictions: Predictions,
    samples: Mapping[str, Sample],
    protocol: Protocol,
    thresholds: Sequence[float],
    count_missing: bool = False,
    workers: int = 1,
) -> Iterator[Judged]:
    """Every image of a predictions directory, in its order.

    Args:
        predictions: in the protocol's frame; without maps the stored boxes are judged, at one threshold whatever it is.
        samples: the annotations by image id.
        protocol: says what is a hit.
        thresholds: T of them, where the maps are cut.
        count_missing: see `LocalizationEvaluator`.
        workers: processes; the results do not depend on how many.
    """
    if not predictions.has_maps:
        thresholds = (float("nan"),)
    jobs: list[_Job] = []
    for chunk in predictions.chunks():
        wanted = [samples[entry.image_id] for entry in chunk.entries]
        jobs.append((chunk, wanted, protocol, tuple(thresholds), count_missing))
    with bar(total=len(predictions.entries), desc=f"judging {predictions.directory}") as progress:
        for chunk in in_processes(_judge_chunk, jobs, workers):
            progress.update(len(chunk))
            yield from chunk


_Job = tuple[Predictions, list[Sample], Protocol, tuple[float, ...], bool]


def _judge_chunk(job: _Job) -> list[Judged]:
    predictions, samples, protocol, thresholds, count_missing = job
    judged = []
    for entry, sample in zip(predictions.entries, samples, strict=True):
        found = protocol.extractor.boxes(predictions.map(entry), thresholds) if predictions.has_maps else [entry.boxes]
        scores = score_boxes(protocol, found, frame_of_truth(entry, sample), sample.boxes)
        never = protocol.leaves_out(entry.image_id) or len(sample.boxes) == 0
        counted = np.zeros_like(scores.counted) if never else scores.counted | count_missing
        judged.append(Judged(entry, scores, counted, protocol.correct(scores.iou) & counted[:, None]))
    return judged
