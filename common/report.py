"""One self-contained HTML page about one or more predictions directories.

    python -m common.report runs/cam/test/* --validation runs/cam/held/* --out runs/cam/report.html

The page holds the protocols side by side with the trivial baselines, every result line, a threshold curve for each
protocol, and a gallery of hits and misses: image, map, predicted and true boxes. Nothing is loaded from elsewhere.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import tyro

from common.errors import UserError, run_command
from common.evaluate import Evaluate, Evaluation, Row, evaluate, in_full, side_by_side, without_thresholds
from common.files import write_text
from common.images import ImageError, read_rgb
from common.metrics import score_boxes
from common.overlays import draw, encode_jpeg
from common.predictions import Prediction
from common.progress import bar
from common.protocols import PROTOCOLS, Protocol

THUMBNAIL = 300
"""Longest side of a picture on the page, in pixels."""
GALLERY_ORDER = ("bas", "wsoleval-v1", "spol", "grcam", "dgl", "adl", "bas-extension", "wsoleval-v2")
"""Which protocol calls a picture a hit, the first that was evaluated."""
COLOURS = ("#c2410c", "#0369a1", "#15803d", "#7e22ce", "#a16207", "#be123c", "#0f766e", "#4338ca")


@dataclass(frozen=True)
class Report(Evaluate):
    """Write one self-contained HTML page about one or more predictions directories."""

    out: Path = Path("report.html")
    """The page."""
    gallery: int = 24
    """Pictures for each directory, half of them misses where there are as many."""
    overwrite: bool = False
    """Replace the page where it is there already."""


@dataclass(frozen=True)
class Card:
    """One picture of the gallery.

    Attributes:
        image_id: as in the data set.
        hit: None where there is no ground truth.
        iou: under the gallery's protocol.
        label, predicted: class names; the second None where nobody classified.
        picture, overlay: data URLs: the image with its boxes, and the map over it.
    """

    image_id: str
    hit: bool | None
    iou: float
    label: str
    predicted: str | None
    picture: str
    overlay: str


@dataclass(frozen=True)
class Gallery:
    """The pictures of one predictions directory, and by which measure they are hits."""

    title: str
    caption: str
    cards: tuple[Card, ...]


def build(options: Report) -> str:
    """The page's HTML."""
    evaluations, baselines = evaluate(options, need_boxes=False)
    galleries = [_gallery(evaluation, options.gallery) for evaluation in evaluations]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scored = any(evaluation.rows for evaluation in evaluations)
    return environment.get_template("report.html.j2").render(
        title=_title(evaluations),
        summary=side_by_side(evaluations, baselines) if scored else None,
        full=in_full(evaluations, baselines) if scored else None,
        runs=without_thresholds(evaluations),
        left_out=[
            f"{row.run}, {row.protocol} ({row.source}): {count} images, {reason}"
            for evaluation in evaluations
            for row in evaluation.rows
            for reason, count in row.left_out.items()
        ],
        curves=[markupsafe.Markup(svg) for svg in _curves(evaluations, baselines)],
        galleries=galleries,
        manifests=[(str(e.predictions.directory), _manifest_lines(e)) for e in evaluations],
        protocols=[PROTOCOLS[name] for name in PROTOCOLS if any(name in e.results for e in evaluations)],
    )


def _title(evaluations: Sequence[Evaluation]) -> str:
    names = []
    for evaluation in evaluations:
        dataset = evaluation.dataset
        name = f"{dataset.name} {dataset.split}, {len(dataset)} images, {len(dataset.class_names)} classes"
        if name not in names:
            names.append(name)
    return "; ".join(names)


def _manifest_lines(evaluation: Evaluation) -> list[tuple[str, str]]:
    manifest = evaluation.predictions.manifest
    process: dict[str, Any] = (manifest.get("processes") or [{}])[-1]
    checkpoint = manifest.get("checkpoint") or {}
    fields = {
        "method": f"{manifest['method']} {manifest['architecture']}",
        "frame": manifest["frame"],
        "checkpoint": f"{checkpoint.get('name')} sha256 {checkpoint.get('sha256')}",
        "classifier": f"{manifest.get('classifier')}",
        "data": f"{manifest['data'].get('name')} {manifest['data'].get('split')} in {manifest['data'].get('root')}",
        "counts": f"{manifest.get('counts')}",
        "options": f"{manifest.get('options')}",
        "versions": ", ".join(f"{name} {version}" for name, version in process.get("versions", {}).items()),
        "commit": f"{process.get('git_commit')}",
    }
    return list(fields.items())


# ------------------------------------------------------------------------------------------------------- the gallery


def _gallery(evaluation: Evaluation, count: int) -> Gallery:
    predictions = evaluation.predictions
    manifest = predictions.manifest
    title = f"{manifest['method']} {manifest['architecture']}, {manifest['frame']}"
    protocol, threshold, source = _measure_of(evaluation)
    if protocol is None:
        chosen = list(predictions.entries[:count])
        scored = [(entry, float("nan"), None, entry.box) for entry in chosen]
        caption = "There is no ground truth to compare with; the box is the stored one."
    else:
        caption = f"Hits and misses under {protocol.name} at threshold {threshold:.3g} ({source})."
        scored = _choose(evaluation, protocol, threshold, count)
    cards = []
    for entry, iou, hit, box in bar(scored, total=len(scored), desc=f"drawing {predictions.directory}"):
        card = _card(evaluation, entry, iou, hit, box)
        if card is not None:
            cards.append(card)
    if len(cards) < len(scored):
        caption += f" {len(scored) - len(cards)} images are no longer readable and not shown."
    return Gallery(title, caption, tuple(cards))


def _measure_of(evaluation: Evaluation) -> tuple[Protocol | None, float, str]:
    """The protocol, threshold and its source by which the gallery tells hits from misses."""
    for name in GALLERY_ORDER:
        rows = {row.source: row for row in evaluation.rows if row.protocol == name}
        for source in ("validation", "oracle", "stored"):
            if source in rows:
                return PROTOCOLS[name], rows[source].threshold or 0.0, source
    return None, 0.0, ""


def _choose(evaluation: Evaluation, protocol: Protocol, threshold: float, count: int):
    """Misses and hits, each spread evenly over the data set: (entry, IoU, hit, box)."""
    hits, misses = [], []
    for entry in evaluation.predictions.entries:
        sample = evaluation.samples[entry.image_id]
        if evaluation.predictions.has_maps:
            found = protocol.extractor.boxes(evaluation.predictions.map(entry), [threshold])
        else:
            found = [np.empty((0, 4)) if entry.box is None else entry.box[None]]
        scores = score_boxes(protocol, found, entry.frame, sample.boxes)
        hit = bool(protocol.correct(scores.iou)[0].any()) and bool(scores.counted[0])
        (hits if hit else misses).append((entry, float(scores.iou[0]), hit, scores.boxes[0]))
    some_misses = _spread(misses, max(count // 2, count - len(hits)))
    return some_misses + _spread(hits, count - len(some_misses))


def _spread(items: list, count: int) -> list:
    if len(items) <= count:
        return items
    return [items[int(position)] for position in np.linspace(0, len(items) - 1, count)]


def _card(
    evaluation: Evaluation, entry: Prediction, iou: float, hit: bool | None, box: np.ndarray | None
) -> Card | None:
    sample = evaluation.samples[entry.image_id]
    try:
        image = read_rgb(sample.path)
    except ImageError:
        return None
    names = evaluation.dataset.class_names
    localization_map = evaluation.predictions.map(entry) if evaluation.predictions.has_maps else None
    picture, overlay = draw(image, entry.frame, localization_map, box, sample.boxes, THUMBNAIL)
    predicted = None
    if entry.top5:
        predicted = names[entry.top5[0]] if entry.top5[0] < len(names) else f"class {entry.top5[0]}"
    label = names[entry.label]
    return Card(entry.image_id, hit, iou, label, predicted, _data_url(picture), _data_url(overlay))


def _data_url(picture: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture)).decode()


# -------------------------------------------------------------------------------------------------------- the curves


@dataclass(frozen=True)
class _Curve:
    label: str
    colour: str
    thresholds: np.ndarray
    values: np.ndarray


def _curves(evaluations: Sequence[Evaluation], baselines: Sequence[Row]) -> list[str]:
    """One SVG a protocol: GT-known against the threshold, a line for each directory and criterion."""
    charts = []
    for name in PROTOCOLS:
        curves: list[_Curve] = []
        for evaluation in evaluations:
            if name not in evaluation.results or not evaluation.predictions.has_maps:
                continue
            result, manifest = evaluation.results[name], evaluation.predictions.manifest
            for criterion, values in zip(result.protocol.criteria, result.gt_known, strict=True):
                several = f", IoU {criterion}" if len(result.protocol.criteria) > 1 else ""
                label = f"{manifest['method']} {manifest['architecture']}{several}"
                curves.append(_Curve(label, COLOURS[len(curves) % len(COLOURS)], result.thresholds, values))
        if curves:
            flat = [(row.method, row.gt_known) for row in baselines if row.protocol == name]
            charts.append(_chart(name, curves, flat))
    return charts


def _chart(name: str, curves: Sequence[_Curve], flat: Sequence[tuple[str, float]]) -> str:
    """An SVG with its axes, the curves with their best points, dashed lines for the baselines, and a legend below."""
    width, left, top, plot_width, plot_height = 360, 34, 24, 316, 168
    span = 1.0 if max(float(curve.thresholds.max()) for curve in curves) > 0.3 else 0.2

    def at(x: float, y: float) -> tuple[float, float]:
        return round(left + plot_width * x / span, 1), round(top + plot_height * (1 - y / 100), 1)

    def line(kind: str, points: Sequence[tuple[float, float]], colour: str = "", tip: str = "") -> str:
        path = " ".join(f"{x},{y}" for x, y in points)
        stroke = f' stroke="{colour}"' if colour else ""
        return f'<polyline class="{kind}"{stroke} points="{path}"><title>{html.escape(tip)}</title></polyline>'

    def text(kind: str, x: float, y: float, words: str, extra: str = "") -> str:
        return f'<text class="{kind}" x="{x}" y="{y}"{extra}>{html.escape(words)}</text>'

    parts = [text("name", left, 15, name)]
    for y in range(0, 101, 25):
        parts.append(line("grid", [at(0, y), at(span, y)]))
        parts.append(text("tick", left - 5, at(0, y)[1] + 3, str(y), ' text-anchor="end"'))
    for x in (span * step / 4 for step in range(5)):
        parts.append(text("tick", at(x, 0)[0], top + plot_height + 13, f"{x:g}", ' text-anchor="middle"'))
    parts += [line("flat", [at(0, y), at(span, y)], tip=f"{label} {y:.1f}") for label, y in flat]
    for number, curve in enumerate(curves):
        known = [(x, y) for x, y in zip(curve.thresholds, curve.values, strict=True) if np.isfinite(y)]
        best = max(known, key=lambda point: point[1], default=(0.0, 0.0))
        words = f"{curve.label}: {best[1]:.1f} at {best[0]:.3g}"
        x, y = at(*best)
        parts.append(line("curve", [at(*point) for point in known], curve.colour, curve.label))
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="3.5" fill="{curve.colour}"><title>{html.escape(words)}</title></circle>'
        )
        parts.append(text("key", left, top + plot_height + 30 + 13 * number, words, f' fill="{curve.colour}"'))
    height = top + plot_height + 30 + 13 * len(curves)
    title = f"GT-known against threshold under {html.escape(name)}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def main() -> None:
    """The command line."""
    options = tyro.cli(Report, prog="python -m common.report", description=__doc__)
    if not options.runs:
        raise UserError("no predictions directory was named", do="name one or more")
    if options.out.exists() and not options.overwrite:
        raise UserError("the page is there already", where=options.out, do="choose another --out, or say --overwrite")
    page = build(options)
    write_text(options.out, page)
    print(f"{options.out.resolve()}  ({len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_command(main)
