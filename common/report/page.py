"""One self-contained HTML page about one or more predictions directories.

    python -m common.report runs/cam/test/* --validation runs/cam/held/* --out runs/cam/report.html

The page holds the protocols side by side with the trivial baselines and the published figures, every result line,
accuracy against threshold and against IoU, accuracy by class, and a gallery: the same image under every run, with a
slider that moves a run's threshold, its box and its hits. Nothing is loaded from elsewhere. It takes about 9 KB a
pictured image and 1 KB more for each run: 300 images of five methods in two frames 6 MB, 5,000 images 65 MB with
`--picture 160`.

Of segmentation runs the page shows mean IoU, and each image with its class maps, its mask and its truth.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from common.datasets.known import known_as
from common.measuring.protocols import PROTOCOLS
from common.report import gallery, segmentation
from common.report.figures import Curve, Whisker, charts, whiskers
from common.report.gallery import CRITERION, JudgedRun
from common.report.published import published
from common.results.comparing import Comparison, compare
from common.results.evaluation import Evaluation, EvaluationOptions, evaluate
from common.results.rows import Row
from common.results.seeds import seed_rows
from common.results.segmentation_scoring import evaluate_segmentation
from common.results.tables import (
    figure,
    in_full,
    leakage_lines,
    left_out_lines,
    matrix,
    pixels_left_out,
    side_by_side,
    without_thresholds,
)
from common.runs.segmentation import is_segmentation
from common.system.errors import UserError
from common.system.files import write_text
from common.system.options import parse

WORDS = {
    "resize 224": "the whole image, squashed to 224 x 224",
    "resize 256 crop 224": "the image squashed to 256 x 256, its central 224 x 224",
    "value": "where the map's values exceed the threshold",
    "grey": "as 8-bit grey, above a share of its greatest level",
    "stretched-grey": "stretched to [0, 1] once more, then as 8-bit grey, above a share of its greatest level",
    "cubehelix-grey": "painted with the cubehelix colours, turned to grey, above a share of its greatest level",
    "largest-component": "the connected region of most pixels",
    "largest-contour": "the contour that encloses the largest area",
    "every-contour": "every contour, of holes too; the one that fits best counts",
    "exclusive": "ends one past its last pixel",
    "clamped": "ends one past its last pixel, but within the frame",
    "inclusive": "boxes as pixel numbers, one added to each side",
    "inclusive-proper": "boxes as pixel numbers, one added to each side; boxes that are inside out overlap nothing",
    "continuous": "boxes as coordinates, nothing added",
    "clip-one-sided": "moved into the frame, cut at its edges from one side only",
    "clip-one-sided-to-pixels": "moved into the frame, cut at its edges from one side only and to whole pixels",
    "clip-and-drop-empty": "cut at the frame's edges; boxes that this empties are dropped",
    "round-half-even": "moved into the frame and rounded",
    "truncate": "moved into the frame and cut to whole pixels",
    "truncate-product": "moved into the frame by a factor and cut to whole pixels",
    "left out": "the image is left out of the count",
    "zero box": "counts as the box 0 0 0 0",
    "unit box": "counts as the box 0 0 1 1",
    "whole frame": "counts as the whole frame",
}
"""Meanings of a protocol's identifiers, for the page."""
IN_A_SELECT = {"resize 224": "the whole image", "resize 256 crop 224": "the image's centre"}
"""Part of an image that a frame shows the network, in the few words that a select holds."""

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report(EvaluationOptions):
    """Write one self-contained HTML page about one or more predictions directories."""

    out: Path = Path("report.html")
    """The page."""
    gallery: int = 300
    """Pictured images at most, half of them misses where not all fit; the tables and plots are about all."""
    picture: int = 240
    """Longest side of a photograph on the page, in pixels."""
    note: str = ""
    """Sentence for the page's readers, below its title."""
    overwrite: bool = False
    """Replace the page where it is there already."""


def build(options: Report) -> str:
    """The page's HTML."""
    if is_segmentation(options.runs[0]):
        found = evaluate_segmentation(options.runs, options.validation, options.root, options.workers)
        return segmentation.build(found, options.gallery, options.picture, _environment())
    evaluations, baselines = evaluate(options, need_boxes=False)
    seeds = seed_rows(evaluations, options.resampling)
    judged = gallery.judge_runs(evaluations, options.count_missing, options.workers)
    pictured, unreadable = gallery.data(judged, options.gallery, options.picture)
    colours = _colours(evaluations)
    pictured["runs"] = [{**run, "colour": colours[run["name"]]} for run in pictured["runs"]]
    pictured["frames"] = {run["frame"]: IN_A_SELECT[run["frame"]] for run in pictured["runs"]}
    scored = any(evaluation.rows for evaluation in evaluations)
    template = _environment().get_template("report.html.j2")
    return template.render(
        title=_title(evaluations),
        note=options.note,
        summary=side_by_side(evaluations, [*baselines, *seeds], in_words=True) if scored else None,
        full=in_full(evaluations, [*baselines, *seeds], in_words=True) if scored else None,
        whiskers=[markupsafe.Markup(svg) for svg in _whisker_charts([*baselines, *seeds], evaluations)],
        comparisons=[matrix(comparison) for comparison in _comparisons(evaluations, options)],
        published=_published(evaluations, options.released_for),
        runs=_runs_table(without_thresholds(evaluations, options.resampling), evaluations),
        leaks=leakage_lines(evaluations),
        left_out=left_out_lines(evaluations, seeds),
        left_out_of_pixels=pixels_left_out(evaluations),
        curves=[markupsafe.Markup(svg) for svg in _threshold_charts(evaluations, baselines)],
        reaches=[markupsafe.Markup(svg) for svg in _iou_charts(judged)],
        per_class=_per_class(judged),
        manifests=[(str(e.predictions.directory), _manifest_lines(e)) for e in evaluations],
        protocols=[PROTOCOLS[name] for name in PROTOCOLS if any(name in e.results for e in evaluations)],
        words=WORDS,
        pictured=len(pictured["images"]),
        judged_by=[
            PROTOCOLS[name].title for name in dict.fromkeys(run["protocol"] for run in pictured["runs"]) if name
        ],
        unreadable=unreadable,
        data=markupsafe.Markup(_script_json(pictured)),
    )


def _comparisons(evaluations: Sequence[Evaluation], options: Report) -> list[Comparison]:
    """Comparisons of all runs by pairs, where they are of one data set; none on a page of several."""
    prints = {evaluation.dataset.fingerprint() for evaluation in evaluations if evaluation.rows}
    return compare(evaluations, options.resampling) if len(prints) == 1 else []


def _whisker_charts(others: Sequence[Row], evaluations: Sequence[Evaluation]) -> list[str]:
    """GT-known with its interval, a chart for each protocol, a line for each result."""
    charts, colours = [], _colours(evaluations)
    rows = [*others, *(row for evaluation in evaluations for row in evaluation.rows)]
    for name in PROTOCOLS:
        shown = [
            Whisker(f"{row.label}, {row.source}" if row.threshold is not None else row.label, row.gt_known, *interval,
                    colours.get(row.label))
            for row in rows
            if row.protocol == name and (interval := row.intervals.get("gt_known"))
        ]  # fmt: skip
        if shown:
            charts.append(whiskers(f"{PROTOCOLS[name].title}: GT-known, 95 % interval", shown))
    return charts


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script_json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _title(evaluations: Sequence[Evaluation]) -> str:
    names = []
    for evaluation in evaluations:
        dataset = evaluation.dataset
        name = f"{dataset.name} {dataset.split}, {len(dataset)} images, {len(dataset.class_names)} classes"
        if name not in names:
            names.append(name)
    return "; ".join(names)


def _published(evaluations: Sequence[Evaluation], declared: str) -> list[list[str]]:
    table = [["method", "architecture", "Top-1", "Top-5", "GT-known", "printed in"]]
    known = [known_as(one.dataset) if declared == "auto" else declared for one in evaluations]
    counts = [(len(one.dataset.class_names), len(one.dataset)) for one in evaluations]
    for name, count in dict.fromkeys(zip(known, counts, strict=True)):
        for row in published(name, *count):
            accuracies = [figure(value) for value in (row.top1, row.top5, row.gt_known)]
            table.append([row.method, row.architecture, *accuracies, row.source])
    return table if len(table) > 1 else []


def _runs_table(table: list[list[str]], evaluations: Sequence[Evaluation]) -> list[list[str]]:
    """The table by the runs' names and frames, with for how many steps each network was trained; directories last."""
    head, *rows = table
    named = [[each.label, each.predictions.manifest.frame, *row[1:], _steps(each), row[0]]
             for row, each in zip(rows, evaluations, strict=True)]  # fmt: skip
    return [["run", "frame", *head[1:], "training steps", "directory"], *named]


def _steps(evaluation: Evaluation) -> str:
    counts = [count for count in evaluation.predictions.manifest.training_steps if isinstance(count, int)]
    return ", ".join(f"{count:,}" if count else "none" for count in counts) or "unknown"


def _manifest_lines(evaluation: Evaluation) -> list[tuple[str, str]]:
    manifest = evaluation.predictions.manifest
    process = manifest.processes[-1] if manifest.processes else {}
    fields = {
        "method": evaluation.predictions.title,
        "frame": manifest.frame,
        "checkpoint": f"{manifest.checkpoint.get('name')} sha256 {manifest.sha256}",
        "classifier": f"{manifest.get('classifier')}",
        "data": f"{manifest.data.get('name')} {manifest.split} in {manifest.data.get('root')}",
        "counts": f"{manifest.get('counts')}",
        "options": f"{manifest.get('options')}",
        "versions": ", ".join(f"{name} {version}" for name, version in process.get("versions", {}).items()),
        "commit": f"{process.get('git_commit')}",
    }
    return list(fields.items())


def _threshold_charts(evaluations: Sequence[Evaluation], baselines: Sequence[Row]) -> list[str]:
    """GT-known against the threshold, a chart for each protocol, a line for each run and criterion."""
    colours, drawn = _colours(evaluations), []
    for name, protocol in PROTOCOLS.items():
        measured = [each for each in evaluations if name in each.results and each.predictions.has_maps]
        flat = [(row.method, row.gt_known) for row in baselines if row.protocol == name]
        for number, criterion in enumerate(protocol.criteria):
            several = len(protocol.criteria) > 1
            curves = [
                Curve(each.label, colours[each.label], result.thresholds, result.gt_known[number], run=each.label)
                for each, result in ((each, each.results[name]) for each in measured)
            ]
            title = f"{protocol.heading}, IoU {criterion}" if several else protocol.heading
            drawn += charts(title, curves, [] if several else flat, protocol=name)
    return drawn


def _colours(evaluations: Sequence[Evaluation]) -> dict[str, int]:
    """The number of each run's colour, the same throughout the page; the two frames of one run share it.

    Runs that have maps come first, because they stand in more plots than those of boxes alone.
    """
    ordered = sorted(evaluations, key=lambda each: not each.predictions.has_maps)
    return {name: number for number, name in enumerate(dict.fromkeys(each.label for each in ordered))}


def _iou_charts(judged: Sequence[JudgedRun]) -> list[str]:
    """Share of images whose box reaches an IoU, a chart for each gallery protocol, at the thresholds it opens with."""
    colours, drawn = _colours([run.evaluation for run in judged]), []
    for protocol in dict.fromkeys(run.measure.protocol for run in judged if run.measure.protocol):
        curves = [
            Curve(f"{run.evaluation.label} {run.measure.read_at()}",
                  colours[run.evaluation.label], gallery.IOU_GRID, run.reach(), CRITERION, run.evaluation.label)
            for run in judged if run.measure.protocol == protocol
        ]  # fmt: skip
        drawn += charts(f"{protocol.title}: images with this IoU or more", curves, across="IoU", judged=protocol.name)
    return drawn


def _per_class(judged: Sequence[JudgedRun]) -> list[tuple[str, list[list[str]]]]:
    """GT-known by class, a table with its title for each data set: a line a class, a column a run, at the thresholds
    that the gallery opens with.
    """
    by_set: dict[int, list[JudgedRun]] = {}
    for run in judged:
        if run.measure.protocol:
            by_set.setdefault(run.dataset, []).append(run)
    tables = []
    for runs in by_set.values():
        dataset = runs[0].evaluation.dataset
        more = f", {len(dataset)} of {dataset.name} {dataset.split}" if len(by_set) > 1 else ""
        tables.append((f"GT-known by class{more}", _class_table(runs)))
    return tables


def _class_table(runs: Sequence[JudgedRun]) -> list[list[str]]:
    first = runs[0].evaluation
    names = first.dataset.shown_names
    counts = np.bincount([sample.label for sample in first.samples.values()], minlength=len(names))
    table = [["class", "images", *(f"{run.evaluation.label}, {_measured_at(run)}" for run in runs)]]
    columns = [_class_hits(run, len(names)) for run in runs]
    for label, name in enumerate(names):
        if not counts[label]:
            continue
        cells = [_class_cell(hits[label], counted[label], counts[label]) for hits, counted in columns]
        table.append([name, str(counts[label]), *cells])
    return table


def _class_cell(hits: int, counted: int, images: int) -> str:
    """Percent of a class's counted images that are hits, and how many these are where a run counts not all."""
    return "-" if not counted else f"{100 * hits / counted:.1f}{f' of {counted}' if counted < images else ''}"


def _measured_at(run: JudgedRun) -> str:
    """Protocol, threshold and its source, and the IoU where the protocol has several."""
    protocol = run.measure.protocol
    iou = f" IoU {CRITERION}" if protocol is not None and len(protocol.criteria) > 1 else ""
    return f"{'' if protocol is None else protocol.title}{iou} {run.measure.read_at()}"


def _class_hits(run: JudgedRun, classes: int) -> np.ndarray:
    """(2, classes) int: how many images of each class are hits, and how many are counted."""
    at, found = run.measure.start, np.zeros((2, classes), np.int64)
    for image_id, judged in run.judged.items():
        label = run.evaluation.samples[image_id].label
        found[:, label] += judged.hit[at], judged.counted[at]
    return found


def main() -> None:
    """Run the command line."""
    options = parse(Report, prog="python -m common.report", description=__doc__)
    options.need_runs()
    if options.out.exists() and not options.overwrite:
        raise UserError("the page is there already", where=options.out, do="choose another --out, or say --overwrite")
    page = build(options)
    write_text(options.out, page)
    print(f"{options.out.resolve()}  ({len(page) / 1e6:.1f} MB)")
