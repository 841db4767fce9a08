"""Scores predictions under every protocol that shares their frame: what `evaluate`, `report` and `export` show."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.datasets import Dataset, DataSource, Sample, classes
from common.datasets.known import known_as
from common.measuring.arrays import Boxes
from common.measuring.metrics import LocalizationResult
from common.measuring.pixel_metrics import PixelResult
from common.measuring.protocols import PROTOCOLS, Protocol
from common.results import leakage, pseudo
from common.results.annotations import annotations_of, doubted, with_sizes
from common.results.baselines import trivial_baselines
from common.results.intervals import Resampling
from common.results.remarks import remarks
from common.results.rows import Row, baseline_rows, rows_of
from common.results.scoring import score, without_boxes
from common.results.validating import held_of, same_model
from common.runs.labels import label
from common.runs.reader import Places, Predictions
from common.system.errors import UserError, say
from common.system.options import also


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of the commands that score predictions."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Predictions directories."""
    validation: tuple[Path, ...] = ()
    """Predictions of the same checkpoints on held-out images, one for each frame, to choose thresholds on."""
    protocols: tuple[str, ...] = ()
    """Protocols to score under; all that share a directory's frame if omitted."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder, where it is no longer the one in the manifest."""
    boxes: Annotated[Path | None, also("data.boxes")] = None
    """The boxes that --data.boxes named, where they are no longer there."""
    metadata: Annotated[Path | None, also("data.metadata")] = None
    """The folder that --data.metadata named, where it is no longer there."""
    list_file: Annotated[Path | None, also("data.list-file")] = None
    """The list that --data.list-file named, where it is no longer there."""
    pseudo: tuple[Path, ...] = ()
    """Pseudo boxes of the --validation images, as common.pseudo_boxes writes them, to choose thresholds on as well."""
    released_for: Literal["auto", "cub", "ilsvrc", "neither"] = "auto"
    """Data set whose released thresholds and published figures are shown: as its classes tell, or the one named."""
    count_missing: bool = False
    """Count as misses the images that a protocol leaves out of its denominator (SPOL quirk 2)."""
    incomplete: bool = False
    """Accept predictions whose run has not finished."""
    resamples: int = 1000
    """Resamples of the bootstrap behind the 95 % intervals; 0 leaves out the intervals that need one."""
    seed: int = 0
    """Seed of the bootstrap."""
    workers: int = 2
    """Processes."""

    @property
    def resampling(self) -> Resampling:
        """Settings of the bootstrap."""
        return Resampling(self.resamples, self.seed)

    @property
    def places(self) -> Places:
        """Places of the data set's files that have moved."""
        return Places(self.root, self.boxes, self.metadata, self.list_file)

    def need_runs(self) -> None:
        """Refuse (`UserError`) a command line that names no predictions directory."""
        if not self.runs:
            raise UserError("no predictions directory was named", do="name one or more")


@dataclass(frozen=True)
class Evaluation:
    """All results of one predictions directory.

    Attributes:
        predictions: as read.
        samples: the annotations, by image id.
        dataset: the split they come from.
        label: names the run in tables and plots, tells it from the others there, and says that it was trained on its
            images where it was.
        validation: what its thresholds were chosen on.
        results: the whole curve under each protocol; none where there are masks only.
        pixels: PxAP and pIoU, None where there are no masks or no maps.
        rows: the result lines.
        pseudo: of held-out images, the whole curve against their pseudo boxes.
    """

    predictions: Predictions
    samples: dict[str, Sample]
    dataset: Dataset
    results: dict[str, LocalizationResult]
    pixels: PixelResult | None
    rows: tuple[Row, ...]
    label: str = ""
    validation: Predictions | None = None
    pseudo: dict[str, LocalizationResult] = field(default_factory=dict)


def evaluate(options: EvaluationOptions, need_boxes: bool = True) -> tuple[list[Evaluation], list[Row]]:
    """Everything the command prints: an `Evaluation` for each directory, and the trivial baselines' rows.

    Args:
        options: of the command.
        need_boxes: refuse data sets without any ground-truth box; otherwise their results and rows are empty.
    """
    wanted = _wanted(options)
    load = cache(DataSource.load)  # many runs share a data set
    held = _held_out(options, wanted, load)
    measured_runs = [_measure(directory, wanted, options, load, need_boxes) for directory in options.runs]
    say(_not_measured(options, measured_runs))
    labels = label([measured.predictions for measured in measured_runs])
    evaluations, baselines = [], _Baselines(options)
    for measured, name in zip(measured_runs, labels, strict=True):
        named = replace(measured, label=name + leakage.of(measured.predictions).remark)
        evaluations.append(_with_rows(named, held, options))
        baselines.add(measured)
    for other in held:
        if not any(same_model(evaluation.predictions, other.predictions) for evaluation in evaluations):
            directory = other.predictions.directory
            raise UserError("validation predictions of another checkpoint or frame than any run's", where=directory)
    return evaluations, baselines.named()


def _with_rows(measured: Evaluation, held: Sequence[Evaluation], options: EvaluationOptions) -> Evaluation:
    """A run's evaluation with its result lines, and with the validation predictions that thresholds were chosen on."""
    chosen_on = held_of(measured.predictions, held)
    if chosen_on is not None:
        leakage.refuse_shared(chosen_on.dataset, measured.dataset, chosen_on.predictions.directory)
        say(_other_classes(chosen_on, measured))
        measured = replace(measured, validation=chosen_on.predictions)
    known = known_as(measured.dataset) if options.released_for == "auto" else options.released_for
    rows: list[Row] = []
    for name, result in measured.results.items():
        of_source = {} if chosen_on is None else {"pseudo": chosen_on.pseudo, "validation": chosen_on.results}
        curves = {source: results[name] for source, results in of_source.items() if name in results}
        rows += rows_of(measured.predictions, measured.label, result, curves, known, options.resampling)
    return replace(measured, rows=tuple(rows))


def _without_truth(sample: Sample) -> str | None:
    """Why no box can be compared in an image, None where one can."""
    if not len(sample.boxes):
        return without_boxes(sample)
    return None if sample.known_size() else "its size is not known"


class _Baselines:
    """Result lines of the trivial boxes, once for each protocol and data set however many runs are on it."""

    def __init__(self, options: EvaluationOptions):
        self._options = options
        self._rows: dict[tuple[str, str], list[Row]] = {}
        self._datasets: list[Dataset] = []

    def add(self, measured: Evaluation) -> None:
        """Measure them on a run's images under its protocols, where that has not been done."""
        dataset = measured.dataset
        self._datasets.append(dataset)
        for name in measured.results:
            key = (name, dataset.fingerprint())
            if key not in self._rows:
                reasons = [_without_truth(sample) for sample in dataset]
                usable = [sample for sample, reason in zip(dataset, reasons, strict=True) if reason is None]
                options = self._options
                trivial = trivial_baselines(PROTOCOLS[name], usable, options.count_missing, options.resampling)
                others = Counter(reason for reason in reasons if reason is not None)
                self._rows[key] = baseline_rows(name, replace(trivial, left_out={**others, **trivial.left_out}))

    def named(self) -> list[Row]:
        """All lines, each with its data set's name where there are several."""
        sets = _named_sets(self._datasets)
        return [replace(row, label=f"{row.label}{sets[fingerprint]}")
                for (_, fingerprint), rows in self._rows.items() for row in rows]  # fmt: skip


def held_out(options: EvaluationOptions) -> list[Evaluation]:
    """The curves of the validation directories alone, against pseudo boxes too where options name some.

    Raises:
        UserError: as `evaluate`.
    """
    return _held_out(options, _wanted(options), cache(DataSource.load))


def _not_measured(options: EvaluationOptions, measured_runs: Sequence[Evaluation]) -> list[str]:
    """A note for each protocol that was asked for and measures in a frame that no run has."""
    frames = {measured.predictions.manifest.frame for measured in measured_runs}
    return [f"note: no run is in the frame {PROTOCOLS[name].frame!r} that the protocol {name} measures in"
            for name in options.protocols if PROTOCOLS[name].frame not in frames]  # fmt: skip


def _wanted(options: EvaluationOptions) -> list[Protocol]:
    if unknown := [name for name in options.protocols if name not in PROTOCOLS]:
        raise UserError(f"unknown protocol {unknown[0]!r}", expected=", ".join(PROTOCOLS))
    return [PROTOCOLS[name] for name in options.protocols or PROTOCOLS]


def _held_out(
    options: EvaluationOptions, wanted: Sequence[Protocol], load: Callable[[DataSource], Dataset]
) -> list[Evaluation]:
    rough = pseudo.read_all(options.pseudo)
    if rough and not options.validation:
        raise UserError("--pseudo without --validation", do="name predictions of the images that it has boxes of")
    return [
        _with_pseudo(_measure(directory, wanted, options, load, not rough), rough, wanted, options)
        for directory in options.validation
    ]


def _other_classes(chosen_on: Evaluation, measured: Evaluation) -> list[str]:
    """A note where thresholds are chosen on a data set of other classes."""
    held, scored = chosen_on.dataset, measured.dataset
    strange, lacking = classes.differing(held.class_names, scored.class_names)
    if not (held.names_known and scored.names_known and strange and lacking):
        return []
    text = (
        f"note: {chosen_on.predictions.directory}: thresholds are chosen on images of other classes than those that "
        f"are scored: {strange[0]} is none of {measured.predictions.directory}"
    )
    return [text]


def _named_sets(datasets: Sequence[Dataset]) -> dict[str, str]:
    """Ending of a baseline's name for each data set, by fingerprint: nothing where there is one alone."""
    found = {dataset.fingerprint(): f" ({len(dataset)} of {dataset.name} {dataset.split})" for dataset in datasets}
    if len(found) == 1:
        return dict.fromkeys(found, "")
    texts = list(found.values())
    return {key: text if texts.count(text) == 1 else f"{text[:-1]}, #{number})"
            for number, (key, text) in enumerate(found.items(), start=1)}  # fmt: skip


def set_numbers(evaluations: Sequence[Evaluation]) -> list[int]:
    """Number of the images that each evaluation is about, counted from 0: ids mean the same image within one number.

    Two splits may have the same ids, and without boxes the same fingerprint; two folders too.
    """
    found: dict[tuple[str, str, str, Path | None], int] = {}
    numbers = []
    for evaluation in evaluations:
        dataset = evaluation.dataset
        boxed = any(len(sample.boxes) for sample in dataset)
        place = None if boxed or not len(dataset) else dataset.samples[0].path.resolve()
        key = (dataset.name, dataset.split, dataset.fingerprint(), place)
        numbers.append(found.setdefault(key, len(found)))
    return numbers


def _measure(
    directory: Path,
    wanted: Sequence[Protocol],
    options: EvaluationOptions,
    load: Callable[[DataSource], Dataset],
    need_boxes: bool = True,
) -> Evaluation:
    """The curves of one predictions directory; none where there is no true box and none is needed."""
    predictions = Predictions.open(directory, options.incomplete)
    predictions.need("method", "architecture", "frame", "checkpoint")
    dataset = with_sizes(annotations_of(predictions, options.places, load), predictions)
    say([*doubted(dataset, directory), *remarks(predictions)])
    samples = {sample.image_id: sample for sample in dataset}
    without = sum(len(sample.boxes) == 0 for sample in dataset)
    if without < len(dataset):
        protocols = _in_frame(predictions, wanted)
    elif any(sample.masks for sample in dataset) or not need_boxes:
        protocols = []
    else:
        root = options.root or predictions.source.root
        raise UserError(f"none of the {without} images has a ground-truth box", where=root,
                        do="look at them with common.report, or localize again with boxes (--data.boxes)")  # fmt: skip
    results, pixels = score(predictions, dataset, protocols, options.count_missing, options.workers)
    return Evaluation(predictions, samples, dataset, results, pixels, ())


def _in_frame(predictions: Predictions, wanted: Sequence[Protocol]) -> list[Protocol]:
    """The protocols that measure in the predictions' frame.

    Raises:
        UserError: there is none.
    """
    frame = predictions.manifest.frame
    if protocols := [protocol for protocol in wanted if protocol.frame == frame]:
        return protocols
    raise UserError(
        f"no protocol asked for measures in the frame {frame!r}", where=predictions.directory,
        expected=", ".join(name for name, each in PROTOCOLS.items() if each.frame == frame)
        or "predictions in another frame",
    )  # fmt: skip


def _with_pseudo(
    held: Evaluation, rough: Mapping[str, Boxes], wanted: Sequence[Protocol], options: EvaluationOptions
) -> Evaluation:
    """A validation directory's evaluation with the curves against pseudo boxes, where there are any."""
    if not rough:
        return held
    dataset = pseudo.with_boxes(held.dataset, rough)
    without = [sample.image_id for sample in dataset if not len(sample.boxes)]
    if len(without) == len(dataset):
        raise UserError("no pseudo box is of these images", where=held.predictions.directory,
                        expected=f"paths such as {without[0]}")  # fmt: skip
    if strange := len(rough) + len(without) - len(dataset):
        say([f"note: {held.predictions.directory}: {strange} of {len(rough)} pseudo boxes are of no image of it"])
    of = [pseudo.fingerprint_of(path) for path in options.pseudo]
    if None not in of and held.predictions.manifest.fingerprint not in of:
        say([f"note: {held.predictions.directory}: the pseudo boxes were made of other images, or of images with other "
             "annotations"])  # fmt: skip
    say(doubted(dataset, held.predictions.directory, "pseudo boxes"))
    protocols = [protocol for protocol in wanted if protocol.frame == held.predictions.manifest.frame]
    results, _ = score(held.predictions, dataset, protocols, options.count_missing, options.workers)
    return replace(held, pseudo=results)
