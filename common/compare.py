"""Say which of several runs are better, and which can't be told apart, on the same images.

    python -m common.compare runs/cam/test/* runs/bas/test/* --validation runs/cam/held/* runs/bas/held/*

prints for each protocol the methods in order, each with the images that its figure is of, N, and with a line beside
those that can't be told apart; and for each pair the
difference in GT-known with its 95 % interval (paired bootstrap), how many images one alone hits, McNemar's exact p, p
by Holm over the protocol's pairs, and what the difference in Top-1 localization is made of: localization (GT-known,
both at their best thresholds), the choice of thresholds, the classifier. Thresholds are those chosen on held-out images
where all runs have them, else the released ones, else the oracle's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.results.comparing import Comparison, compare
from common.results.evaluation import EvaluationOptions, evaluate
from common.results.tables import compared, leakage_lines, ranking, render
from common.system.errors import UserError, run_command
from common.system.files import write_json
from common.system.options import parse


@dataclass(frozen=True)
class Compare(EvaluationOptions):
    """Compare runs on the same images, by pairs."""

    format: Literal["text", "markdown"] = "text"
    """Format of the printed tables."""
    ids: bool = False
    """Also print the images that one of a pair alone hits."""
    json: Path | None = None
    """JSON file to write all comparisons to, those images included."""


def main() -> None:
    """Run the command line."""
    options = parse(Compare, prog="python -m common.compare", description=__doc__)
    if len(options.runs) < 2:
        raise UserError(f"{len(options.runs)} predictions directories were named", expected="two or more")
    evaluations, _ = evaluate(options)
    comparisons = compare(evaluations, options.resampling)
    if not comparisons:
        raise UserError("no two runs were scored under the same protocol", do="name runs of one frame")
    for comparison in comparisons:
        print(f"{comparison.protocol}, thresholds from {comparison.source}, {comparison.images} images")
        print(f"{render(ranking(comparison), options.format)}\n")
    print(render(compared(comparisons), options.format))
    if options.ids:
        _print_ids(comparisons)
    if lines := leakage_lines(evaluations):
        print("\n" + "\n".join(lines))
    if options.json:
        write_json(options.json, [asdict(comparison) for comparison in comparisons])


def _print_ids(comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        for pair in comparison.pairs:
            for winner, ids in ((pair.one, pair.only_one), (pair.other, pair.only_other)):
                for image_id in ids:
                    print(f"{comparison.protocol}, {pair.one} against {pair.other}: {winner} alone hits {image_id}")


if __name__ == "__main__":
    run_command(main)
