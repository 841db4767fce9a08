"""Score predictions under every protocol that shares their frame, beside the trivial baselines.

    python -m common.evaluate runs/cam/test/* --validation runs/cam/held/*

Each result line names its protocol, its threshold and where that came from:

    released     fixed in the paper's released code for CUB and for ILSVRC, by backbone; other data sets have none
    validation   the best on the validation predictions, read on these
    pseudo       the same with pseudo boxes in place of the true ones, which are full supervision
    oracle       the best on these very images, hence optimistic; for wsoleval it is MaxBoxAcc itself
    stored       boxes stored without maps, scored as they are

Behind each figure stands its 95 % interval: Wilson's at a threshold that was fixed beforehand, a bootstrap's over
images otherwise.

Runs of a segmentation, of class maps or of masks, get their mean IoU instead, by class and by threshold; with --full
also CorLoc, where the annotations have boxes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from common.measuring.pixel_metrics import PixelResult
from common.results import leakage
from common.results.evaluation import Evaluation, EvaluationOptions, evaluate
from common.results.intervals import LEVEL, Resampling
from common.results.rows import Row
from common.results.seeds import seed_rows
from common.results.segmentation_scoring import evaluate_segmentation
from common.results.segmentation_tables import as_json, class_table, corloc_lines, summary_table, threshold_table
from common.results.segmentation_tables import left_out_lines as segmentation_left_out
from common.results.tables import (
    beside_in_short,
    beside_protocols,
    in_full,
    in_short,
    leakage_lines,
    left_out_lines,
    render,
    side_by_side,
    without_thresholds,
)
from common.runs.segmentation import is_segmentation
from common.system.errors import run_command
from common.system.files import write_json
from common.system.options import parse

COLUMNS = 100
"""Columns that the default tables take at most, where a run's figures leave room for its name."""


@dataclass(frozen=True)
class Evaluate(EvaluationOptions):
    """Score predictions under every protocol that shares their frame, beside the trivial baselines."""

    full: bool = False
    """Print every result line, every source of a threshold, classification and pixels too; CorLoc of segmentations."""
    format: Literal["text", "markdown"] = "text"
    """Format of the printed table."""
    split: str | None = None
    """Split to score of segmentation runs, such as train where the maps are of train_aug; all images if omitted."""
    sweep: Literal["released", "whole"] = "released"
    """Thresholds of class maps of segmentation runs: 0.20 to 0.44 as released, or 0.00 to 0.99."""
    json: Path | None = None
    """Also write the rows and the curves here."""


def main() -> None:
    """Run the command line."""
    options = parse(Evaluate, prog="python -m common.evaluate", description=__doc__)
    options.need_runs()
    if is_segmentation(options.runs[0]):
        _print_segmentation(options)
        return
    evaluations, baselines = evaluate(options)
    baselines += seed_rows(evaluations, options.resampling)
    print("\n".join(_what_was_scored(evaluations, options.full)))
    for table in _tables(evaluations, baselines, options):
        print(f"\n{render(table, options.format, None if options.full else COLUMNS)}")
    if lines := [*leakage_lines(evaluations), *left_out_lines(evaluations, baselines)]:
        print("\n" + "\n".join(dict.fromkeys(lines)))
    if not options.full:
        print("\nPercent, with 95 % intervals. --full: every threshold, Top-1 and Top-5, classification, pixels.")
    if options.json:
        write_json(options.json, _as_json(evaluations, baselines, options.resampling))


def _what_was_scored(evaluations: Sequence[Evaluation], full: bool) -> list[str]:
    """A line for each data set and split, with its predictions directories, or their number where they do not fit."""
    lines: dict[str, list[str]] = {}
    for evaluation in evaluations:
        dataset, source = evaluation.dataset, evaluation.predictions.manifest.data
        what = f"{dataset.name} {dataset.split}, {len(dataset)} images, {len(dataset.class_names)} classes"
        lines.setdefault(f"{what} ({source['root']})", []).append(str(evaluation.predictions.directory))
    told = []
    for what, directories in lines.items():
        every = ", ".join(directories)
        fits = full or len(what) + len(every) <= COLUMNS
        told.append(f"{what}: {every if fits else f'{len(directories)} predictions directories'}")
    return told


def _tables(evaluations: Sequence[Evaluation], baselines: Sequence[Row], options: Evaluate) -> list[list[list[str]]]:
    """Tables that are printed: in short one table a frame, and pixels where there are masks; in full everything."""
    scored = any(evaluation.rows for evaluation in evaluations)
    if options.full:
        beside = without_thresholds(evaluations, options.resampling)
        return [beside, *([side_by_side(evaluations, baselines), in_full(evaluations, baselines)] if scored else [])]
    pixels = any(evaluation.pixels is not None for evaluation in evaluations)
    beside = [beside_in_short(evaluations, options.resampling)] if pixels or not scored else []
    return [*(in_short(evaluations, baselines) if scored else []), *beside]


def _print_segmentation(options: Evaluate) -> None:
    evaluations = evaluate_segmentation(
        options.runs, options.validation, options.root, options.workers, options.split, options.full, options.sweep
    )
    tables = (summary_table(evaluations), class_table(evaluations), threshold_table(evaluations))
    print("\n\n".join(render(table, options.format) for table in tables if table))
    print("".join(f"\n{line}\n" for line in corloc_lines(evaluations)), end="")
    print("".join(f"{line}\n" for line in segmentation_left_out(evaluations)), end="")
    if options.json:
        write_json(options.json, {"segmentation": as_json(evaluations)})


def _as_json(evaluations: Sequence[Evaluation], baselines: Sequence[Row], how: Resampling) -> dict[str, Any]:
    curves = [
        {
            "run": str(evaluation.predictions.directory),
            "protocol": name,
            "thresholds": result.thresholds.tolist(),
            "criteria": list(result.protocol.criteria),
            **{key: getattr(result, key).tolist() for key in ("gt_known", "top1", "top5")},
        }
        for evaluation in evaluations
        for name, result in evaluation.results.items()
    ]  # fmt: skip
    runs = [
        {
            "run": str(evaluation.predictions.directory),
            "label": evaluation.label,
            "classification_top1": evaluation.predictions.accuracy(1),
            "classification_top5": evaluation.predictions.accuracy(5),
            "trained_on_these": leakage.of(evaluation.predictions).text,
            "pixels": None if evaluation.pixels is None else _pixels(evaluation.pixels),
            "intervals": {name: each[1] for name, each in beside_protocols(evaluation, how).items() if each},
        }
        for evaluation in evaluations
    ]
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    resampling = {"level": LEVEL, **asdict(how)}
    found = {"runs": runs, "bootstrap": resampling, "rows": [asdict(row) for row in rows], "curves": curves}
    return json.loads(json.dumps(found), parse_constant=lambda name: None)  # JSON has no NaN


def _pixels(result: PixelResult) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in fields(result) if field.name != "by_image"}


if __name__ == "__main__":
    run_command(main)
