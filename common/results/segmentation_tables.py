"""Results of segmentation runs as tables of cells, as lines and as plain values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.measuring.arrays import Floats
from common.results import leakage
from common.results.segmentation_scoring import SegmentationEvaluation
from common.results.tables import figure
from common.system.errors import printable


def left_out_lines(evaluations: Sequence[SegmentationEvaluation]) -> list[str]:
    """A line for each reason why images of a run have no result."""
    return [f"{each.predictions.directory}: {count} left out: {printable(reason)}"
            for each in evaluations for reason, count in each.left_out.items()]  # fmt: skip


def summary_table(evaluations: Sequence[SegmentationEvaluation]) -> list[list[str]]:
    """Every result line as cells; shares in percent."""
    shown = ("run", "method", "split", "N", "left out", "threshold", "from", "mIoU", "background among foreground",
             "background missed", "classes missed", "classes too much", "trained on these")  # fmt: skip
    table = [list(shown)]
    for evaluation in evaluations:
        for row in evaluation.rows:
            result = row.result
            shares = (result.miou, result.background_among_foreground, result.false_negatives[0],
                      _mean(result.false_negatives[1:]), _mean(result.false_positives[1:]))  # fmt: skip
            predictions, left_out = evaluation.predictions, str(sum(evaluation.left_out.values()))
            cells = [str(predictions.directory), predictions.title, evaluation.split, str(result.images), left_out]
            leak = leakage.of(predictions).text
            table.append([*cells, figure(result.threshold), row.source, *map(_percent, shares), leak])
    return table


def _mean(values: Floats) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else float("nan")


def _percent(share: float) -> str:
    return figure(100 * share)


def class_table(evaluations: Sequence[SegmentationEvaluation]) -> list[list[str]]:
    """IoU of every class in percent, a column a run: at the validation's threshold, else at the released one.

    Runs of other classes have `-` in the lines that are not theirs.
    """
    rows = [each.shown for each in evaluations]
    ious = [dict(zip(each.names, map(_percent, row.result.iou), strict=True))
            for each, row in zip(evaluations, rows, strict=True)]  # fmt: skip
    header = [f"{name} ({row.source})" for name, row in zip(column_names(evaluations), rows, strict=True)]
    return [["IoU", *header]] + [
        [name, *(each.get(name, "-") for each in ious)]
        for name in dict.fromkeys(name for each in ious for name in each)
    ]


def column_names(evaluations: Sequence[SegmentationEvaluation]) -> list[str]:
    """The directories' names, and their paths where two have one name."""
    directories = [each.predictions.directory for each in evaluations]
    names = [directory.name for directory in directories]
    return names if len(set(names)) == len(names) else list(map(str, directories))


def threshold_table(evaluations: Sequence[SegmentationEvaluation]) -> list[list[str]]:
    """The mean IoU in percent of every threshold, a column for each run of class maps; empty without any."""
    shown = [evaluation for evaluation in evaluations if evaluation.predictions.kind == "maps"]
    if not shown:
        return []
    table = [["mIoU at", *column_names(shown)]]
    for each in zip(*(evaluation.results for evaluation in shown), strict=True):
        table.append([figure(each[0].threshold), *(_percent(result.miou) for result in each)])
    return table


def as_json(evaluations: Sequence[SegmentationEvaluation]) -> list[dict[str, Any]]:
    """Plain values of every run: rows, IoU by class, mean IoU by threshold."""
    return [
        {
            "run": str(each.predictions.directory),
            "task": "segmentation",
            "kind": each.predictions.kind,
            "split": each.split,
            "left_out": each.left_out,
            "corloc": each.corloc,
            "thresholds": [[result.threshold, _number(result.miou)] for result in each.results],
            "rows": [
                {
                    "source": row.source,
                    "threshold": row.result.threshold,
                    "images": row.result.images,
                    "miou": _number(row.result.miou),
                    "iou": dict(zip(each.names, map(_number, row.result.iou), strict=True)),
                }
                for row in each.rows
            ],
        }
        for each in evaluations
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def corloc_lines(evaluations: Sequence[SegmentationEvaluation]) -> list[str]:
    """CorLoc of each run that has it, a line each."""
    return [
        f"{each.predictions.directory}: CorLoc {each.corloc:.2f} of {each.pairs} pairs of image and class, the largest "
        f"region of each class at the threshold from {each.shown.source}"
        for each in evaluations
        if each.corloc is not None
    ]
