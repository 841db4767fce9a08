"""Say how many held-out images a threshold needs: what fewer cost against the oracle.

    python -m common.held_out runs/cam/test/* runs/bas/test/*

draws 5, 10, 20 ... of a run's own images, chooses the threshold on them, and reads it on all the others: the points of
GT-known that are lost to the best threshold there, as the median of the draws and as what nine of ten do not exceed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from common.results.evaluation import EvaluationOptions, evaluate
from common.results.held import SIZES, costs
from common.results.tables import render
from common.system.errors import UserError, run_command
from common.system.files import write_json
from common.system.options import parse


@dataclass(frozen=True)
class HeldOut(EvaluationOptions):
    """Say what thresholds chosen on few held-out images cost."""

    validation: tyro.conf.Suppress[tuple[Path, ...]] = ()
    pseudo: tyro.conf.Suppress[tuple[Path, ...]] = ()
    released_for: tyro.conf.Suppress[Literal["auto", "cub", "ilsvrc", "neither"]] = "auto"
    resamples: int = 1000
    """Draws of each number of images."""
    seed: int = 0
    """Seed of the draws."""
    sizes: tuple[int, ...] = SIZES
    """Numbers of held-out images; those beyond half of a run's images are passed over."""
    format: Literal["text", "markdown"] = "text"
    """Format of the printed table."""
    json: Path | None = None
    """Also write the figures here."""


def main() -> None:
    """Run the command line."""
    options = parse(HeldOut, prog="python -m common.held_out", description=__doc__)
    options.need_runs()
    if options.resamples < 1 or any(size < 1 for size in options.sizes):
        raise UserError(f"--resamples {options.resamples} --sizes {options.sizes}", expected="1 or more of each")
    evaluations, _ = evaluate(options)
    rows = [
        (evaluation.label, cost)
        for evaluation in evaluations
        if evaluation.predictions.has_maps
        for result in evaluation.results.values()
        for cost in costs(result, options.sizes, options.resampling)
    ]
    if not rows:
        raise UserError("no run has maps and twice the least number of images")
    table = [["method", "protocol", "held-out images", "points lost, median", "nine of ten below"]]
    table += [
        [label, cost.protocol, str(cost.images), f"{cost.median:.1f}", f"{cost.ninety:.1f}"] for label, cost in rows
    ]
    print(render(table, options.format))
    if options.json:
        write_json(options.json, [{"label": label, **asdict(cost)} for label, cost in rows])


if __name__ == "__main__":
    run_command(main)
