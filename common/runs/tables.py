"""Results as tables of cells, and tables as text."""

from collections.abc import Sequence

from common.measuring.protocols import PROTOCOLS
from common.runs import leakage
from common.runs.evaluation import Evaluation, Row
from common.system.errors import printable


def side_by_side(evaluations: Sequence[Evaluation], baselines: Sequence[Row]) -> list[list[str]]:
    """GT-known as a table of cells: a line for each run and source of the threshold, a column for each protocol."""
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    columns = [name for name in PROTOCOLS if any(row.protocol == name for row in rows)]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        source = "oracle" if row.source.endswith("oracle") else row.source
        threshold = "" if row.threshold is None else f" @{row.threshold:.3g}"
        lines.setdefault((row.label, source), {})[row.protocol] = f"{row.gt_known:.1f}{threshold}"
    table = [["GT-known", "threshold", *columns]]
    for (label, source), cells in lines.items():
        table.append([label, source, *(cells.get(column, "-") for column in columns)])
    return table


def in_full(evaluations: Sequence[Evaluation], baselines: Sequence[Row]) -> list[list[str]]:
    """Every result line as cells."""
    table = [
        ["protocol", "method", "threshold", "from", "classifier", "N", "left out",
         "Top-1", "Top-5", "GT-known", "over images"]
    ]  # fmt: skip
    rows = [*baselines, *(row for evaluation in evaluations for row in evaluation.rows)]
    for row in sorted(rows, key=lambda row: list(PROTOCOLS).index(row.protocol)):
        threshold = "-" if row.threshold is None else f"{row.threshold:.3f}"
        accuracies = [
            "-" if value is None else f"{value:.2f}" for value in (row.top1, row.top5, row.gt_known, row.over_images)
        ]
        left_out = str(sum(row.left_out.values()))
        table.append(
            [row.protocol, row.label, threshold, row.source, row.classifier, str(row.images), left_out, *accuracies]
        )
    return table


def without_thresholds(evaluations: Sequence[Evaluation]) -> list[list[str]]:
    """What no protocol changes, as cells: classification accuracy, and pixel metrics where there are masks."""
    table = [["run", "classification Top-1", "Top-5", "PxAP", "pIoU", "mean IoU of images", "trained on these"]]
    for evaluation in evaluations:
        predictions, pixels = evaluation.predictions, evaluation.pixels
        values = [predictions.accuracy(1), predictions.accuracy(5)]
        values += [None] * 3 if pixels is None else [pixels.pxap, pixels.piou, pixels.mean_iou]
        cells = ["-" if value is None else f"{value:.2f}" for value in values]
        table.append([str(predictions.directory), *cells, leakage.of(predictions).text])
    return table


def render(table: list[list[str]], style: str) -> str:
    """A table of cells as aligned text or as Markdown; the first row is the header."""
    table = [[printable(cell) for cell in row] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |" if style == "markdown" else "  ".join(cells).rstrip())
        if number == 0:
            rule = ["-" * width for width in widths]
            lines.append(f"| {' | '.join(rule)} |" if style == "markdown" else "  ".join(rule))
    return "\n".join(lines)


def leakage_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each directory whose images were trained on, or of which that is unknown; `leakage.lines`."""
    found = leakage.lines([one.predictions for one in evaluations], [one.validation for one in evaluations])
    return [printable(line) for line in found]


def left_out_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each reason for which a result leaves images out."""
    lines = []
    for evaluation in evaluations:
        if evaluation.pixels is not None:
            lines += [f"{evaluation.predictions.directory}, pixel metrics: {count} left out: {printable(reason)}"
                      for reason, count in evaluation.pixels.left_out.items()]  # fmt: skip
        for row in evaluation.rows:
            lines += [f"{row.run}, {row.protocol} ({row.source}): {count} left out: {printable(reason)}"
                      for reason, count in row.left_out.items()]  # fmt: skip
    return lines
