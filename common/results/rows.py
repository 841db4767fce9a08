"""Result lines: each names its run, its protocol, its threshold and where that came from, its classifier and its N.

The five sources of thresholds are explained in `common.evaluate`, whose `--help` shows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from common.measuring.arrays import Integers
from common.measuring.metrics import LocalizationResult
from common.measuring.protocols import PROTOCOLS
from common.results.baselines import TrivialBaselines
from common.results.intervals import MEASURES, Interval, Resampling, best_of_images, intervals, of_images
from common.runs.reader import Predictions

SOURCES = ("validation", "pseudo", "released", "oracle", "stored")
"""Sources of thresholds: where one alone is shown or compared at, the first that there is."""
GALLERY_ORDER = ("bas", "wsoleval-v1", "spol", "grcam", "dgl", "adl", "bas-extension", "wsoleval-v2")
"""Protocols whose boxes stand for a run where there can be one alone: the first that was evaluated in its frame."""


@dataclass(frozen=True)
class Row:
    """One result line.

    Attributes:
        run: the predictions directory; empty for a trivial baseline.
        method: its method and architecture, or the baseline's name.
        label: the same, made long enough to tell it from the other runs.
        protocol: by name.
        threshold: as read; with several criteria the mean of theirs. None for a baseline.
        thresholds: one for each criterion; empty for a baseline.
        source: `released`, `validation`, `pseudo`, `oracle` or `stored`; for the centred box its side.
        classifier: who classified, with how many crops.
        images: in the denominator.
        left_out: of the denominator, by reason; images skipped by the method are among them.
        top1, top5, gt_known: localization accuracy in percent, None where nobody classified.
        over_images: GT-known over images, also where the protocol averages over classes; None for the baselines.
        intervals: the 95 % interval of each of the four that there is; see `intervals`.
        seeds: how many trainings the line is the mean of; `run` is empty where there are several.
        spread: the standard deviation over seeds of each of the four, where there are several.
    """

    run: str
    method: str
    protocol: str
    threshold: float | None
    source: str
    classifier: str
    images: int
    left_out: dict[str, int]
    top1: float | None
    top5: float | None
    gt_known: float
    over_images: float | None
    thresholds: tuple[float, ...] = ()
    label: str = ""
    intervals: dict[str, Interval] = field(default_factory=dict)
    seeds: int = 1
    spread: dict[str, float] = field(default_factory=dict)

    def cut_at(self) -> float | None:
        """The threshold that maps were cut at; None for baselines, and for stored boxes of no map, whose 0 says so."""
        return None if self.source == "stored" and self.threshold == 0 else self.threshold

    def criterion_of_half(self) -> int:
        """The number of the criterion IoU 0.5, at whose threshold one box is read where several have their own."""
        return PROTOCOLS[self.protocol].criteria.index(0.5)


def rows_of(
    predictions: Predictions,
    label: str,
    result: LocalizationResult,
    held: Mapping[str, LocalizationResult],
    known: str | None,
    how: Resampling,
) -> list[Row]:
    """The result lines of one run under one protocol, a line for each source of its threshold.

    Args:
        predictions: of the run.
        label: names it.
        result: its whole curve.
        held: curves of held-out images, by the source that a threshold chosen on them is.
        known: the data set whose released thresholds apply, None where there are none.
        how: how intervals are drawn.
    """
    criteria = len(result.protocol.criteria)
    if not predictions.has_maps:
        return [_row(predictions, label, result, np.zeros(criteria, int), "stored", how)]
    chosen: dict[str, Integers] = {}
    fixed = result.protocol.fixed_threshold(known, predictions.manifest.architecture)
    if fixed is not None:
        chosen["released"] = result.nearest(fixed)
    for source, curve in held.items():
        if curve.counted.any():  # of no image there is no best threshold
            chosen[source] = curve.best()
    chosen["oracle"] = result.best()
    return [_row(predictions, label, result, indices, source, how) for source, indices in chosen.items()]


def _row(
    predictions: Predictions, label: str, result: LocalizationResult, indices: Integers, source: str, how: Resampling
) -> Row:
    values = result.at(indices)
    stored = [entry.threshold for entry in predictions.entries]
    threshold = float(np.mean(stored)) if source == "stored" else float(result.thresholds[indices].mean())
    counted = int(result.counted[indices].min())
    return Row(
        run=str(predictions.directory),
        method=predictions.title,
        protocol=result.protocol.name,
        threshold=threshold,
        source=source,
        classifier=_classifier(predictions.manifest.classifier),
        images=counted,
        left_out=_left_out(predictions, result, counted),
        top1=_known(values["top1"]),
        top5=_known(values["top5"]),
        gt_known=values["gt_known"],
        over_images=values["over_images"],
        thresholds=tuple(result.thresholds[indices].tolist()),
        label=label,
        intervals=intervals(result, None if source == "oracle" else indices, how),
    )


def _left_out(predictions: Predictions, result: LocalizationResult, counted: int) -> dict[str, int]:
    """Number of images that are not in the denominator, by reason."""
    left_out = dict(result.left_out)
    for reason in predictions.skipped.values():
        left_out[f"skipped: {reason}"] = left_out.get(f"skipped: {reason}", 0) + 1
    if rest := result.seen - sum(result.left_out.values()) - counted:
        left_out["no region above the threshold"] = rest
    return left_out


def _classifier(record: dict[str, Any]) -> str:
    if not record:
        return "none"
    crops = record.get("crops")
    return f"{record.get('name')}, {'crops unknown' if crops is None else f'{crops} crop(s)'}"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def baseline_rows(protocol: str, trivial: TrivialBaselines) -> list[Row]:
    """The result lines of the boxes that never look at the image, under one protocol."""

    def row(method: str, source: str, gt_known: float, interval: Interval | None) -> Row:
        known = {} if interval is None else {"gt_known": interval}
        return Row("", method, protocol, None, source, "none", trivial.images, trivial.left_out, None, None, gt_known,
                   None, label=method, intervals=known)  # fmt: skip

    return [
        row("whole image", "-", trivial.whole_image, trivial.whole_interval),
        row(
            "best centred box",
            f"side {trivial.centred_side:.2f}, oracle",
            trivial.centred_box,
            trivial.centred_interval,
        ),
    ]


def indices_of(result: LocalizationResult, row: Row) -> Integers:
    """The threshold of each criterion that a result line was read at, as an index into the curve."""
    if np.isnan(result.thresholds).any():  # stored boxes
        return np.zeros(len(row.thresholds), int)
    return np.array([int(np.abs(result.thresholds - at).argmin()) for at in row.thresholds])


def row_of_images(result: LocalizationResult, row: Row, ids: Sequence[str]) -> Row:
    """A result line with the figures of some of its images alone, without intervals.

    An oracle's threshold is chosen on them; the other images are left out of the denominator.
    """
    order = result.hits.places(ids)
    indices = np.array(best_of_images(result, order)) if row.source == "oracle" else indices_of(result, row)
    names = [name for name in MEASURES if getattr(row, name) is not None]
    figures: dict[str, Any] = of_images(result, indices, order, names)
    thresholds = tuple(result.thresholds[indices].tolist())
    counted = int(result.hits.counted(order)[:, indices].sum(axis=0).min())
    others = {"not in every run": row.images - counted} if row.images > counted else {}
    threshold = row.threshold if row.source == "stored" else float(np.mean(thresholds))
    return replace(row, threshold=threshold, thresholds=thresholds, images=counted,
                   left_out={**row.left_out, **others}, intervals={}, **figures)  # fmt: skip
