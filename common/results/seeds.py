"""Runs that differ in the training's seed alone, as one method: mean, spread, and an interval that holds both sources.

The interval adds two variances: of the seeds' mean by Student's t over seeds, and of the images by the bootstrap, in
which every seed's run sees the same resampled images. An image that one of the runs has not, as one whose map is
missing, is left out of all of them, and every figure is of the others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, sqrt
from typing import Any

import numpy as np

from common.measuring.arrays import Floats
from common.measuring.metrics import LocalizationResult
from common.measuring.protocols import PROTOCOLS
from common.results import leakage
from common.results.evaluation import Evaluation
from common.results.intervals import LEVEL, MEASURES, Interval, Resampling, draws, resampled
from common.results.rows import Row, indices_of, row_of_images
from common.runs.manifest import Manifest
from common.system.errors import say
from common.system.wording import number_of, some


@dataclass(frozen=True)
class Group:
    """Runs of one method, frame, split and recipe that were trained with different seeds.

    Attributes:
        recipe: what they share, the same in every frame.
        members: one of each seed, two or more.
    """

    recipe: str
    members: tuple[Evaluation, ...]


def groups(evaluations: Sequence[Evaluation]) -> list[Group]:
    """Find the runs that differ in the seed alone.

    Where a seed has several, as of a training's last checkpoint and an earlier one, they are told apart by their steps;
    of those that have the same, the first is taken, which is said.
    """
    found: dict[tuple[Any, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        manifest = evaluation.predictions.manifest
        if manifest.training:
            found.setdefault((manifest.frame, _recipe(manifest)), []).append(evaluation)
    result = []
    for (_, recipe), each in found.items():
        by_steps: dict[str, list[Evaluation]] = {}
        several = len({_seed(one) for one in each}) < len(each)
        for one in each:
            by_steps.setdefault(f"{recipe} {_steps(one)}" if several else recipe, []).append(one)
        for key, alike in by_steps.items():
            members = _one_of_each(alike)
            result += [Group(key, members)] if len(members) > 1 else []
    return result


def _one_of_each(alike: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    members: dict[str, Evaluation] = {}
    for one in alike:
        first = members.setdefault(_seed(one), one)
        if first.predictions.manifest.sha256 != one.predictions.manifest.sha256:
            say([f"note: {first.predictions.directory} and {one.predictions.directory} are of one seed and recipe, and "
                 "of two checkpoints; means over seeds take the first"])  # fmt: skip
    return tuple(members.values())


def _seed(evaluation: Evaluation) -> str:
    return str(evaluation.predictions.manifest.training.get("seed"))


def _steps(evaluation: Evaluation) -> str:
    return json.dumps(evaluation.predictions.manifest.training_steps)


def _recipe(manifest: Manifest) -> str:
    told = [manifest.get(name) for name in ("method", "architecture", "classifier", "options")]
    return json.dumps([*told, manifest.training.get("recipe"), manifest.fingerprint], sort_keys=True)


def seed_rows(evaluations: Sequence[Evaluation], how: Resampling) -> list[Row]:
    """A result line for each method of several seeds, protocol and source of the threshold."""
    rows: list[Row] = []
    recipes: dict[str, dict[str, int]] = {}
    for group in groups(evaluations):
        members, first = group.members, group.members[0]
        name = f"{first.predictions.title}, {len(members)} seeds"
        known = recipes.setdefault(name, {})
        number = known.setdefault(group.recipe, len(known) + 1)
        name += ("" if number == 1 else f" #{number}") + _remark(members)
        for protocol, source in dict.fromkeys((row.protocol, row.source) for each in members for row in each.rows):
            same, lacking = _rows_of(members, protocol, source)
            if lacking:
                say([f"note: {name}: no mean at thresholds from {source}, which {lacking[0].predictions.directory} "
                     "lacks"])  # fmt: skip
                continue
            together = _together(members, same, how)
            rows += [] if together is None else [replace(together, label=name)]
    return rows


def _rows_of(members: Sequence[Evaluation], protocol: str, source: str) -> tuple[list[Row], list[Evaluation]]:
    """The result line of each run, and the runs that have none."""
    rows, lacking = [], []
    for member in members:
        found = [row for row in member.rows if (row.protocol, row.source) == (protocol, source)]
        rows += found[:1]
        lacking += [] if found else [member]
    return rows, lacking


def _remark(members: Sequence[Evaluation]) -> str:
    """The remark that stands behind each run's name where all have the same, else the number of runs that have one."""
    remarks = [remark for member in members if (remark := leakage.of(member.predictions).remark)]
    if not remarks or (len(remarks) == len(members) and len(set(remarks)) == 1):
        return "".join(remarks[:1])
    return f" ({len(remarks)} of these runs were trained or chosen on these images)"


def _together(members: Sequence[Evaluation], rows: Sequence[Row], how: Resampling) -> Row | None:
    """The mean over seeds on the images that all runs have; None where there is no such image."""
    results = [member.results[row.protocol] for member, row in zip(members, rows, strict=True)]
    ids = sorted(set.intersection(*(set(result.hits.ids) for result in results)))
    if missing := set().union(*(result.hits.ids for result in results)) - set(ids):
        what = number_of(len(missing), "image is", "images are")
        say([f"note: {rows[0].protocol}, {len(rows)} seeds of {rows[0].method}: {what} not in every run, "
             f"{some(sorted(missing), 1)}; their mean is of the others, {len(ids)}"])  # fmt: skip
        if not ids:
            return None
        rows = [row_of_images(result, row, ids) for result, row in zip(results, rows, strict=True)]
    first = min(rows, key=lambda row: row.images)
    if first.images < (most := max(row.images for row in rows)):
        say([f"note: {first.protocol} ({first.source}), {len(rows)} seeds of {first.method}: the protocol counts "
             f"{first.images} images of one run and {most} of another; N is the fewest"])  # fmt: skip
    known = [name for name in MEASURES if all(_is_figure(getattr(row, name)) for row in rows)]
    each = {name: np.array([getattr(row, name) for row in rows]) for name in known}
    drawn = _drawn(results, rows, ids, known, how)
    means: dict[str, Any] = dict.fromkeys(MEASURES) | {"gt_known": float("nan")}
    means |= {name: float(values.mean()) for name, values in each.items()}
    return replace(
        first,
        run="",
        threshold=float(np.mean([row.threshold for row in rows if row.threshold is not None])),
        thresholds=tuple(np.mean([row.thresholds for row in rows], axis=0).tolist()),
        seeds=len(rows),
        spread={name: float(values.std(ddof=1)) for name, values in each.items()},
        intervals={name: both_sources(each[name], drawn[name]) for name in known if how.resamples},
        **means,
    )


def _is_figure(value: float | None) -> bool:
    """Whether there is an accuracy: of runs that nobody classified, or that count no image, there is none."""
    return value is not None and not isnan(value)


def both_sources(seeds: Floats, drawn: Floats) -> Interval:
    """The 95 % interval of a mean over seeds.

    Args:
        seeds: (K,) accuracies in percent.
        drawn: (R,) the mean over seeds in resamples of the images.
    """
    from scipy.stats import norm, t  # slow to import, and --help needs none of it

    count, quantile = len(seeds), 0.5 + LEVEL / 2
    by_seed = t.ppf(quantile, count - 1) * seeds.std(ddof=1) / sqrt(count)
    by_image = norm.ppf(quantile) * np.nanstd(drawn, ddof=1)
    half = sqrt(by_seed**2 + by_image**2)
    return float(max(seeds.mean() - half, 0.0)), float(min(seeds.mean() + half, 100.0))


def _drawn(
    results: Sequence[LocalizationResult], rows: Sequence[Row], ids: Sequence[str], names: Sequence[str],
    how: Resampling,
) -> dict[str, Floats]:  # fmt: skip
    """The mean over seeds of each accuracy in each resample of the images, (R,)."""
    if not how.resamples:
        return {}
    orders = [result.hits.places(ids) for result in results]
    by_class = PROTOCOLS[rows[0].protocol].mean_over == "classes"
    times = draws(results[0].hits.labels[orders[0]] if by_class else None, len(ids), how)
    values = [
        resampled(result, None if row.source == "oracle" else indices_of(result, row), times, order, names)
        for result, row, order in zip(results, rows, orders, strict=True)
    ]
    return {name: np.mean([each[name] for each in values], axis=0) for name in names}
