"""Whether one method is better than another: paired comparisons of runs on the same images.

For each pair under each protocol: the difference in GT-known with a paired bootstrap's interval, how many images each
alone hits, McNemar's exact p, and p by Holm over a protocol's pairs. An image that a protocol leaves out of a run's
denominator is no hit of that run. An image that a run has not, as one whose map is missing, is left out of all of them,
and every figure is of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from common.measuring.arrays import Floats, Integers
from common.measuring.metrics import LocalizationResult
from common.measuring.protocols import PROTOCOLS
from common.results.evaluation import Evaluation
from common.results.intervals import (
    Interval,
    Resampling,
    best_of_images,
    draws,
    less_optimism,
    of_images,
    percentiles,
    resampled,
)
from common.results.rows import SOURCES, Row, indices_of, row_of_images
from common.system.errors import UserError, say
from common.system.wording import number_of, some

ALPHA = 0.05
"""Two methods are told apart where Holm's p is below it."""


@dataclass(frozen=True)
class Side:
    """One run under one protocol.

    Attributes:
        label: names the run.
        row: its result line, of the images that all runs have.
        result: its hits and curves.
        best: GT-known at its oracle threshold, of the same images.
    """

    label: str
    row: Row
    result: LocalizationResult
    best: float

    @property
    def indices(self) -> Integers:
        """The threshold of each criterion, as an index."""
        return indices_of(self.result, self.row)


@dataclass(frozen=True)
class Parts:
    """Parts of a difference in Top-1 localization, in points; None where nobody classified.

    Attributes:
        localization: the difference in GT-known, both at their oracle thresholds.
        threshold: what choosing thresholds as compared, and not by the oracle, adds to it.
        classifier: what asking for the right class as well adds.
    """

    localization: float
    threshold: float
    classifier: float | None


@dataclass(frozen=True)
class Pair:
    """Two runs under one protocol.

    Attributes:
        one, other: their labels.
        difference: GT-known of the first less the second's, in points.
        interval: its 95 % interval; None without a bootstrap or a figure.
        only_one, only_other: ids of the images that one alone hits, at IoU 0.5.
        p: McNemar's, exact and two-sided.
        adjusted: by Holm over the protocol's pairs.
        parts: what the difference in Top-1 is made of.
    """

    one: str
    other: str
    difference: float
    interval: Interval | None
    only_one: tuple[str, ...]
    only_other: tuple[str, ...]
    p: float
    adjusted: float
    parts: Parts

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart."""
        return self.adjusted < ALPHA


@dataclass(frozen=True)
class Comparison:
    """All runs under one protocol.

    Attributes:
        protocol: its name.
        source: where the thresholds come from.
        images: how many all runs hold.
        ranked: labels and GT-known, best first.
        counted: images in the denominator of each of these figures; fewer where the protocol leaves some out.
        pairs: of every two, the better one first.
    """

    protocol: str
    source: str
    images: int
    ranked: tuple[tuple[str, float], ...]
    counted: tuple[int, ...]
    pairs: tuple[Pair, ...]

    def alike(self) -> list[list[str]]:
        """The longest stretches of the ranking in which no two methods can be told apart, those of one left out."""
        names = [label for label, _ in self.ranked]
        apart = {frozenset((pair.one, pair.other)) for pair in self.pairs if pair.apart}
        stretches: list[list[str]] = []
        for start in range(len(names)):
            end = start + 1
            while end < len(names) and not any(frozenset((names[end], name)) in apart for name in names[start:end]):
                end += 1
            if end - start > 1 and not (stretches and names[end - 1] in stretches[-1]):
                stretches.append(names[start:end])
        return stretches


def holm(values: Sequence[float]) -> list[float]:
    """P values adjusted by Holm (1979), in the order given."""
    order = np.argsort(values, kind="stable")
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[int(place)] = least
    return adjusted


def mcnemar(only_one: int, only_other: int) -> float:
    """The exact two-sided p that images hit by one alone are as often the first's as the second's."""
    from scipy.stats import binomtest  # slow to import, and --help needs none of it

    discordant = only_one + only_other
    return 1.0 if discordant == 0 else float(binomtest(only_one, discordant, 0.5).pvalue)


def compare(evaluations: Sequence[Evaluation], how: Resampling) -> list[Comparison]:
    """Compare runs under every protocol that at least two of them were scored under, and say where no image counts.

    Raises:
        UserError: runs on other images or annotations.
    """
    comparisons = []
    pairs: dict[tuple[Path, Path], tuple[Evaluation, Evaluation]] = {}  # of all protocols, each once
    mixed: dict[str, list[str]] = {}
    for name in PROTOCOLS:
        scored = [evaluation for evaluation in evaluations if any(row.protocol == name for row in evaluation.rows)]
        if len(scored) < 2:
            continue
        first = scored[0]
        for other in scored[1:]:
            if other.dataset.fingerprint() != first.dataset.fingerprint():
                raise UserError("the runs are of other images or annotations", where=other.predictions.directory,
                                expected=f"those of {first.predictions.directory}")  # fmt: skip
            pairs[first.predictions.directory, other.predictions.directory] = first, other
        if not set.intersection(*(set(one.results[name].hits.ids) for one in scored)):
            say([f"note: no image was counted for all runs under {name}, so they are not compared under it"])
            continue
        sides, source = _sides(scored, name)
        if text := _mixed_sources(sides):
            mixed.setdefault(text, []).append(name)
        comparisons.append(_compared(sides, source, how))
    for first, other in pairs.values():
        say([*_other_sizes(first, other), *_other_held_out(first, other)])
    say(f"note: {', '.join(names)}: {text}" for text, names in mixed.items())
    return comparisons


def _sides(scored: Sequence[Evaluation], protocol: str) -> tuple[list[Side], str]:
    """Each run at its threshold from the first source that all have, else each at its own first."""
    rows = [{row.source: row for row in evaluation.rows if row.protocol == protocol} for evaluation in scored]
    shared = next((source for source in SOURCES if all(source in each for each in rows)), None)
    sides = []
    for evaluation, each in zip(scored, rows, strict=True):
        source = shared or next(name for name in SOURCES if name in each)
        result = evaluation.results[protocol]
        sides.append(Side(evaluation.label, each[source], result, result.max_box_acc))
    return sides, shared or ", ".join(dict.fromkeys(side.row.source for side in sides))


def _mixed_sources(sides: Sequence[Side]) -> str:
    """Words for runs whose thresholds have no source in common; empty where they have one."""
    runs: dict[str, list[str]] = {}
    for side in sides:
        runs.setdefault(side.row.source, []).append(side.label)
    if len(runs) == 1:
        return ""
    told = ", ".join(f"{source} ({some(labels, 2)})" for source, labels in runs.items())
    favour = "; the oracle's are chosen on these very images, which favours them" if "oracle" in runs else ""
    return f"no source of thresholds is common to all runs: {told}{favour}"


def _other_sizes(first: Evaluation, other: Evaluation) -> list[str]:
    """A note where runs saw images of other sizes, in whose pixels one's true boxes are not: a resized copy of them."""
    sizes = {name: sample.declared_size for name, sample in first.samples.items() if sample.declared_size}
    apart = [name for name, sample in other.samples.items()
             if sample.declared_size and sizes.get(name, sample.declared_size) != sample.declared_size]  # fmt: skip
    if not apart:
        return []
    what = number_of(len(apart), "image was", "images were")
    return [f"note: {what} of another size when {other.predictions.directory} was made than for "
            f"{first.predictions.directory}, {some(apart, 1)}: true boxes are in pixels of one alone"]  # fmt: skip


def _other_held_out(first: Evaluation, other: Evaluation) -> list[str]:
    """A note where thresholds of two runs were chosen on different held-out images."""
    if first.validation is None or other.validation is None:
        return []
    if first.validation.manifest.fingerprint == other.validation.manifest.fingerprint:
        return []
    return [f"note: thresholds of {first.predictions.directory} and {other.predictions.directory} were chosen on "
            "different held-out images"]  # fmt: skip


def _compared(sides: Sequence[Side], source: str, how: Resampling) -> Comparison:
    protocol = sides[0].row.protocol
    ids = sorted(set.intersection(*(set(side.result.hits.ids) for side in sides)))
    if missing := set().union(*(side.result.hits.ids for side in sides)) - set(ids):
        what = number_of(len(missing), "image is", "images are")
        say([f"note: {protocol}: {what} not in every run, {some(sorted(missing), 1)}; all figures are of the others, "
             f"{len(ids)}"])  # fmt: skip
        sides = [_on(side, ids) for side in sides]
    ranked = sorted(sides, key=lambda side: (np.isnan(side.row.gt_known), -side.row.gt_known))  # without a figure last
    orders = [side.result.hits.places(ids) for side in ranked]
    by_class = PROTOCOLS[protocol].mean_over == "classes"
    times = draws(ranked[0].result.hits.labels[orders[0]] if by_class else None, len(ids), how)
    values = [_resampled(side, times, order) for side, order in zip(ranked, orders, strict=True)]
    half = PROTOCOLS[protocol].criteria.index(0.5)
    hit = [side.result.hits.at(side.indices)[0][order, half] for side, order in zip(ranked, orders, strict=True)]
    alone = {
        (a, b): (np.flatnonzero(hit[a] & ~hit[b]), np.flatnonzero(hit[b] & ~hit[a]))
        for a, b in combinations(range(len(ranked)), 2)
    }
    raw = [mcnemar(len(one), len(other)) for one, other in alone.values()]
    pairs = []
    for ((a, b), (one, other)), p, adjusted in zip(alone.items(), raw, holm(raw), strict=True):
        difference = ranked[a].row.gt_known - ranked[b].row.gt_known
        pairs.append(Pair(
            ranked[a].label, ranked[b].label, difference, _interval(values[a] - values[b], difference, source),
            tuple(ids[k] for k in one), tuple(ids[k] for k in other), p, adjusted, _parts(ranked[a], ranked[b]),
        ))  # fmt: skip
    order = tuple((side.label, side.row.gt_known) for side in ranked)
    counted = tuple(side.row.images for side in ranked)
    return Comparison(protocol, source, len(ids), order, counted, tuple(pairs))


def _on(side: Side, ids: Sequence[str]) -> Side:
    """A run's figures on some of its images alone; an oracle's threshold is chosen on them."""
    order = side.result.hits.places(ids)
    best = best_of_images(side.result, order)
    return replace(side, row=row_of_images(side.result, side.row, ids),
                   best=of_images(side.result, best, order)["gt_known"])  # fmt: skip


def _resampled(side: Side, times: Integers, order: Integers) -> Floats:
    indices = None if side.row.source == "oracle" else side.indices
    return resampled(side.result, indices, times, order)["gt_known"] if len(times) else np.empty(0)


def _interval(values: Floats, difference: float, source: str) -> Interval | None:
    if len(values) == 0 or np.isnan(difference):
        return None
    ends = percentiles(values)
    return less_optimism(ends, values, difference, (-100.0, 100.0)) if source == "oracle" else ends


def _parts(one: Side, other: Side) -> Parts:
    used = one.row.gt_known - other.row.gt_known
    localization = one.best - other.best
    classifier = None
    if one.row.top1 is not None and other.row.top1 is not None:
        classifier = one.row.top1 - other.row.top1 - used
    return Parts(localization, used - localization, classifier)
