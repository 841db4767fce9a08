"""Results as tables of cells, and tables as text."""

import itertools
import math
import textwrap
from collections.abc import Sequence

from common.measuring.geometry import FRAMES
from common.measuring.protocols import PROTOCOLS
from common.results import leakage
from common.results.comparing import Comparison
from common.results.evaluation import Evaluation
from common.results.intervals import Interval, Resampling, pixel_intervals, wilson
from common.results.rows import SOURCES, Row
from common.system.errors import printable


def side_by_side(
    evaluations: Sequence[Evaluation], baselines: Sequence[Row], in_words: bool = False
) -> list[list[str]]:
    """GT-known as a table of cells: a line for each run and source of the threshold, a column for each protocol, by its
    name, or `in_words` by its heading.
    """
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    columns = [name for name in PROTOCOLS if any(row.protocol == name for row in rows)]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        source = "oracle" if row.source.endswith("oracle") else row.source
        at = row.cut_at()
        threshold = "" if at is None else f" @{at:.3g}"
        lines.setdefault((row.label, source), {})[row.protocol] = (
            f"{figure(row.gt_known, 1)}{spread(row, 'gt_known')}{between(row.intervals.get('gt_known'))}{threshold}"
        )
    table = [["GT-known", "threshold", *(PROTOCOLS[name].heading if in_words else name for name in columns)]]
    for (label, source), cells in lines.items():
        table.append([label, source, *(cells.get(column, "-") for column in columns)])
    return table


def in_short(evaluations: Sequence[Evaluation], baselines: Sequence[Row]) -> list[list[list[str]]]:
    """GT-known with its interval, a table for each frame: a line for each run at one source of its threshold.

    The source is the first of `SOURCES` that a run has under a protocol; a cell says it where it is another than the
    line's.
    """
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    tables = []
    for short, frame in FRAMES.items():
        columns = [
            name for name, protocol in PROTOCOLS.items()
            if protocol.frame == frame and any(row.protocol == name for row in rows)
        ]  # fmt: skip
        if columns:
            found: dict[str, dict[str, Row]] = {}
            for row in sorted(rows, key=_rank):
                if row.protocol in columns:
                    found.setdefault(row.label, {}).setdefault(row.protocol, row)
            tables.append([[f"GT-known, {short}", "threshold", *columns], *_short_lines(found, columns, rows)])
    return tables


def _rank(row: Row) -> int:
    return SOURCES.index(row.source) if row.source in SOURCES else 0


def _short_lines(found: dict[str, dict[str, Row]], columns: Sequence[str], rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for label in dict.fromkeys(row.label for row in rows if row.label in found):
        cells = found[label]
        source = min(cells.values(), key=_rank).source
        source = "oracle" if source.endswith("oracle") else source
        line = [label, source]
        for column in columns:
            row = cells.get(column)
            other = "" if row is None or row.source.endswith(source) else f" {row.source}"
            line.append("-" if row is None else f"{figure(row.gt_known, 1)}{spread(row, 'gt_known')}"
                                                f"{between(row.intervals.get('gt_known'), 0)}{other}")  # fmt: skip
        lines.append(line)
    return lines


def in_full(evaluations: Sequence[Evaluation], baselines: Sequence[Row], in_words: bool = False) -> list[list[str]]:
    """Every result line as cells; its protocol by name, or `in_words` by its heading."""
    table = [
        ["protocol", "method", "threshold", "from", "classifier", "N", "left out",
         "Top-1", "Top-5", "GT-known", "over images"]
    ]  # fmt: skip
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    for row in sorted(rows, key=lambda row: list(PROTOCOLS).index(row.protocol)):
        threshold = figure(row.cut_at(), 3)
        accuracies = [
            f"{figure(getattr(row, name))}{spread(row, name)}{between(row.intervals.get(name))}"
            for name in ("top1", "top5", "gt_known", "over_images")
        ]
        left_out = str(sum(row.left_out.values()))
        protocol = PROTOCOLS[row.protocol].heading if in_words else row.protocol
        table.append(
            [protocol, row.label, threshold, row.source, row.classifier, str(row.images), left_out, *accuracies]
        )
    return table


def figure(value: float | None, digits: int = 2) -> str:
    """A figure as every table prints it: `-` where there is none; `left_out_lines` says why."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(points: float | None) -> str:
    """A difference in points, `+1.2`; no sign where it is 0.0, `-` where there is none."""
    if points is None or math.isnan(points):
        return "-"
    return f"{points:+.1f}" if round(points, 1) else "0.0"


def between(interval: Interval | None, digits: int = 1) -> str:
    """A 95 % interval as it stands behind its figure, ` (86.7-94.0)`; nothing where there is none."""
    return "" if interval is None else f" ({interval[0]:.{digits}f}-{interval[1]:.{digits}f})"


def spread(row: Row, name: str) -> str:
    """The standard deviation over seeds as it stands behind a mean, ` ±0.8`; nothing for one seed."""
    return f" ±{row.spread[name]:.1f}" if name in row.spread else ""


def beside_protocols(evaluation: Evaluation, how: Resampling) -> dict[str, tuple[float, Interval | None] | None]:
    """Classification accuracies and pixel metrics in percent with their 95 % intervals, None where there are none."""
    predictions, pixels = evaluation.predictions, evaluation.pixels
    count = len(predictions.entries)
    found: dict[str, tuple[float, Interval | None] | None] = {}
    for name, among in (("classification_top1", 1), ("classification_top5", 5)):
        value = predictions.accuracy(among)
        found[name] = None if value is None else (value, wilson(round(value * count / 100), count))
    known = {} if pixels is None else pixel_intervals(pixels, how)
    for name in ("pxap", "piou", "mean_iou"):
        found[name] = None if pixels is None else (getattr(pixels, name), known.get(name))
    return found


def without_thresholds(
    evaluations: Sequence[Evaluation],
    how: Resampling = Resampling(),  # noqa: B008, it is frozen
) -> list[list[str]]:
    """Cells that no protocol changes: classification accuracy, and pixel metrics where there are masks."""
    table = [["run", "classification Top-1", "Top-5", "PxAP", "pIoU", "mean IoU of images", "trained on these"]]
    for evaluation in evaluations:
        predictions = evaluation.predictions
        found = beside_protocols(evaluation, how).values()
        cells = ["-" if each is None else f"{each[0]:.2f}{between(each[1])}" for each in found]
        table.append([str(predictions.directory), *cells, leakage.of(predictions).text])
    return table


def beside_in_short(evaluations: Sequence[Evaluation], how: Resampling) -> list[list[str]]:
    """Make the table of `without_thresholds` in fewer columns: by runs' names, without Top-5, and to a tenth."""
    kinds = {frame: short for short, frame in FRAMES.items()}
    table = [["classes and pixels", "frame", "Top-1 class", "PxAP", "pIoU", "mean IoU"]]
    for evaluation in evaluations:
        found = beside_protocols(evaluation, how)
        found.pop("classification_top5")
        cells = ["-" if each is None else f"{figure(each[0], 1)}{between(each[1], 0)}" for each in found.values()]
        frame = evaluation.predictions.manifest.frame
        table.append([evaluation.label, kinds.get(frame, frame), *cells])
    return table


def ranking(comparison: Comparison) -> list[list[str]]:
    """The methods under one protocol, best first; a line runs beside those that can't be told apart."""
    stretches = comparison.alike()
    table = [["method", "GT-known", "N", "not told apart"]]
    for (label, value), counted in zip(comparison.ranked, comparison.counted, strict=True):
        lines = " ".join("|" if label in stretch else " " for stretch in stretches).rstrip()
        table.append([label, figure(value, 1), str(counted), lines])
    return table


def compared(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Every pair under every protocol, as cells."""
    table = [
        ["protocol", "better", "worse", "difference", "it alone hits", "the other alone", "McNemar's p", "by Holm",
         "told apart", "localization", "thresholds", "classifier"]
    ]  # fmt: skip
    for comparison in comparisons:
        for pair in comparison.pairs:
            parts = [signed(each) for each in (pair.parts.localization, pair.parts.threshold, pair.parts.classifier)]
            difference = signed(pair.difference)
            if pair.interval is not None:
                difference += f" ({pair.interval[0]:+.1f} to {pair.interval[1]:+.1f})"
            alone = [str(len(pair.only_one)), str(len(pair.only_other))]
            table.append([
                comparison.protocol, pair.one, pair.other, difference, *alone,
                f"{pair.p:.2g}", f"{pair.adjusted:.2g}", "yes" if pair.apart else "no", *parts,
            ])  # fmt: skip
    return table


def matrix(comparison: Comparison) -> list[list[str]]:
    """Differences of each method from each other, in points; in brackets where the two can't be told apart. The corner
    holds the protocol's heading.
    """
    names = [label for label, _ in comparison.ranked]
    cells = {}
    for pair in comparison.pairs:
        for one, other, sign in ((pair.one, pair.other, 1), (pair.other, pair.one, -1)):
            text = signed(sign * pair.difference)
            cells[one, other] = text if pair.apart else f"({text})"
    table = [[f"{PROTOCOLS[comparison.protocol].heading}, {comparison.source}", *names]]
    return [*table, *([name, *(cells.get((name, other), "") for other in names)] for name in names)]


def render(table: list[list[str]], style: str, width: int | None = None) -> str:
    """A table of cells as aligned text or as Markdown; the first row is the header.

    Args:
        table: its rows, all of one length.
        style: text or markdown.
        width: columns that text may take; cells are broken at blanks where the table is wider, names of lines first.
    """
    table = [[printable(cell) for cell in row] for row in table]
    rows = [[row] for row in table]
    if style == "text" and width is not None:
        rows = _narrowed(table, width)
    widths = [max(len(line[column]) for row in rows for line in row) for column in range(len(table[0]))]
    lines = []
    for number, row in enumerate(rows):
        for line in row:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            lines.append(f"| {' | '.join(cells)} |" if style == "markdown" else "  ".join(cells).rstrip())
        if number == 0:
            rule = ["-" * width for width in widths]
            lines.append(f"| {' | '.join(rule)} |" if style == "markdown" else "  ".join(rule))
    return "\n".join(lines)


LEAST = 16
"""Characters that names of lines keep, however narrow a table is to be."""
LEAST_OF_A_FIGURE = 8
"""The same for other cells, such as `100.0 (61-100)`."""


def _narrowed(table: list[list[str]], width: int) -> list[list[list[str]]]:
    """Lines of each row, whose cells are broken so that the table fits into `width` columns if it can.

    Cells behind the names stay whole where names of `LEAST` characters leave room for them, and where nothing helps.
    """
    least = max([LEAST, *(len(part) for row in table for part in _broken(row[0], LEAST))])
    longest = max((len(cell) for row in table for cell in row[1:]), default=0)
    for room in range(longest, LEAST_OF_A_FIGURE - 1, -1):
        if least + _taken(cells := _all_broken(table, room)) <= width:
            break
    else:
        cells = _all_broken(table, longest)
    names = max(LEAST, width - _taken(cells))
    narrow = []
    for row, others in zip(table, cells, strict=True):
        parts = [_broken(row[0], names), *others]
        narrow.append([list(line) for line in itertools.zip_longest(*parts, fillvalue="")])
    return narrow


def _all_broken(table: list[list[str]], room: int) -> list[list[list[str]]]:
    """Lines of every cell behind the names."""
    return [[_broken(cell, room) for cell in row[1:]] for row in table]


def _taken(cells: list[list[list[str]]]) -> int:
    """Columns that the cells behind the names take, with the blanks before each."""
    return sum(2 + max(len(line) for row in cells for line in row[column]) for column in range(len(cells[0])))


def _broken(cell: str, room: int) -> list[str]:
    if len(cell) <= room:
        return [cell]
    return textwrap.wrap(cell, room, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False) or [""]


def leakage_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each directory whose images were trained on, or of which that is unknown; `leakage.lines`."""
    found = leakage.lines([one.predictions for one in evaluations], [one.validation for one in evaluations])
    return [printable(line) for line in found]


def left_out_lines(evaluations: Sequence[Evaluation], others: Sequence[Row] = ()) -> list[str]:
    """A line for each reason for which a result leaves images out, and for each result that no image is left for.

    Args:
        evaluations: of the runs.
        others: lines of seeds among them, which leave out what one of their runs has not.
    """
    lines = pixels_left_out(evaluations)
    rows = [(row.run, row) for evaluation in evaluations for row in evaluation.rows]
    rows += [(row.label, row) for row in others if row.seeds > 1]
    for name, row in rows:
        lines += [f"{name}, {row.protocol} ({row.source}): {count} left out: {printable(reason)}"
                  for reason, count in row.left_out.items()]  # fmt: skip
        if row.images == 0:
            lines.append(f"{name}, {row.protocol} ({row.source}): no figure, since no image is counted")
    return lines


def pixels_left_out(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each reason for which pixel metrics leave images out."""
    return [f"{evaluation.predictions.directory}, pixel metrics: {count} left out: {printable(reason)}"
            for evaluation in evaluations if evaluation.pixels is not None
            for reason, count in evaluation.pixels.left_out.items()]  # fmt: skip
