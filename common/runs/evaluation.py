"""Scores predictions under every protocol that shares their frame: what `evaluate`, `report` and `export` show.

Each result line (`Row`) names its protocol, its threshold and where that came from; the five sources of thresholds are
explained in `common.evaluate`, whose `--help` shows them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from common.datasets import Dataset, DataSource, Sample, classes
from common.datasets.known import known_as
from common.measuring.arrays import Boxes, Integers
from common.measuring.metrics import LocalizationResult
from common.measuring.pixel_metrics import PixelResult
from common.measuring.plausible import doubts
from common.measuring.protocols import PROTOCOLS, Protocol
from common.runs import leakage, pseudo
from common.runs.baselines import TrivialBaselines, trivial_baselines
from common.runs.intervals import MEASURES, Interval, Resampling, best_of_images, intervals, of_images
from common.runs.labels import label
from common.runs.reader import Places, Predictions
from common.runs.scoring import score
from common.runs.validating import held_of, same_model
from common.system.errors import UserError, say
from common.system.options import also
from common.system.wording import number_of, some

SOURCES = ("validation", "pseudo", "released", "oracle", "stored")
"""Sources of thresholds: where one alone is shown or compared at, the first that there is."""
GALLERY_ORDER = ("bas", "wsoleval-v1", "spol", "grcam", "dgl", "adl", "bas-extension", "wsoleval-v2")
"""Protocols whose boxes stand for a run where there can be one alone: the first that was evaluated in its frame."""


@dataclass(frozen=True)
class Row:
    """One result line.

    Attributes:
        run: the predictions directory; empty for a trivial baseline.
        method: its method and architecture, or the baseline's name.
        label: the same, made long enough to tell it from the other runs.
        protocol: by name.
        threshold: as read; with several criteria the mean of theirs. None for a baseline.
        thresholds: one for each criterion; empty for a baseline.
        source: `released`, `validation`, `pseudo`, `oracle` or `stored`; for the centred box its side.
        classifier: who classified, with how many crops.
        images: in the denominator.
        left_out: of the denominator, by reason; images skipped by the method are among them.
        top1, top5, gt_known: localization accuracy in percent, None where nobody classified.
        over_images: GT-known over images, also where the protocol averages over classes; None for the baselines.
        intervals: the 95 % interval of each of the four that there is; see `intervals`.
        seeds: how many trainings the line is the mean of; `run` is empty where there are several.
        spread: the standard deviation over seeds of each of the four, where there are several.
    """

    run: str
    method: str
    protocol: str
    threshold: float | None
    source: str
    classifier: str
    images: int
    left_out: dict[str, int]
    top1: float | None
    top5: float | None
    gt_known: float
    over_images: float | None
    thresholds: tuple[float, ...] = ()
    label: str = ""
    intervals: dict[str, Interval] = field(default_factory=dict)
    seeds: int = 1
    spread: dict[str, float] = field(default_factory=dict)

    def criterion_of_half(self) -> int:
        """The number of the criterion IoU 0.5, at whose threshold one box is read where several have their own."""
        return PROTOCOLS[self.protocol].criteria.index(0.5)


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
    labels = label([measured.predictions for measured in measured_runs])
    evaluations, baselines = [], {}
    for measured, name in zip(measured_runs, labels, strict=True):
        chosen_on = held_of(measured.predictions, held)
        measured = replace(measured, label=name + leakage.of(measured.predictions).remark)
        if chosen_on is not None:
            leakage.refuse_shared(chosen_on.dataset, measured.dataset, chosen_on.predictions.directory)
            say(_other_classes(chosen_on, measured))
            measured = replace(measured, validation=chosen_on.predictions)
        known = known_as(measured.dataset) if options.released_for == "auto" else options.released_for
        rows = tuple(
            row for name in measured.results for row in _rows(measured, name, chosen_on, known, options.resampling)
        )
        evaluations.append(replace(measured, rows=rows))
        for name in measured.results:
            key = (name, measured.dataset.fingerprint())
            if key not in baselines:
                usable = [sample for sample in measured.dataset if len(sample.boxes) and sample.known_size()]
                trivial = trivial_baselines(PROTOCOLS[name], usable, options.count_missing, options.resampling)
                baselines[key] = _baseline_rows(name, trivial)
    for other in held:
        if not any(same_model(evaluation.predictions, other.predictions) for evaluation in evaluations):
            directory = other.predictions.directory
            raise UserError("validation predictions of another checkpoint or frame than any run's", where=directory)
    sets = _named_sets([measured.dataset for measured in measured_runs])
    return evaluations, [
        replace(row, label=f"{row.label}{sets[fingerprint]}")
        for (_, fingerprint), rows in baselines.items()
        for row in rows
    ]


def held_out(options: EvaluationOptions) -> list[Evaluation]:
    """The curves of the validation directories alone, against pseudo boxes too where options name some.

    Raises:
        UserError: as `evaluate`.
    """
    return _held_out(options, _wanted(options), cache(DataSource.load))


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
    found: dict[Any, int] = {}
    numbers = []
    for evaluation in evaluations:
        dataset = evaluation.dataset
        boxed = any(len(sample.boxes) for sample in dataset)
        place = None if boxed or not len(dataset) else dataset.samples[0].path.resolve()
        key = (dataset.name, dataset.split, dataset.fingerprint(), place)
        numbers.append(found.setdefault(key, len(found)))
    return numbers


def indices_of(result: LocalizationResult, row: Row) -> Integers:
    """The threshold of each criterion that a result line was read at, as an index into the curve."""
    if np.isnan(result.thresholds).any():  # stored boxes
        return np.zeros(len(row.thresholds), int)
    return np.array([int(np.abs(result.thresholds - at).argmin()) for at in row.thresholds])


def row_of_images(result: LocalizationResult, row: Row, ids: Sequence[str]) -> Row:
    """A result line with the figures of some of its images alone, without intervals.

    An oracle's threshold is chosen on them; the other images are left out of the denominator.
    """
    order = result.hits.places(ids)
    indices = np.array(best_of_images(result, order)) if row.source == "oracle" else indices_of(result, row)
    names = [name for name in MEASURES if getattr(row, name) is not None]
    figures: dict[str, Any] = of_images(result, indices, order, names)
    thresholds = tuple(result.thresholds[indices].tolist())
    counted = int(result.hits.counted(order)[:, indices].sum(axis=0).min())
    others = {"not in every run": row.images - counted} if row.images > counted else {}
    threshold = row.threshold if row.source == "stored" else float(np.mean(thresholds))
    return replace(row, threshold=threshold, thresholds=thresholds, images=counted,
                   left_out={**row.left_out, **others}, intervals={}, **figures)  # fmt: skip


def _measure(
    directory: Path,
    wanted: Sequence[Protocol],
    options: EvaluationOptions,
    load: Callable[[DataSource], Dataset],
    need_boxes: bool = True,
) -> Evaluation:
    predictions = Predictions.open(directory, options.incomplete)
    predictions.need("method", "architecture", "frame", "checkpoint")
    source = predictions.source_in(Places(options.root, options.boxes, options.metadata, options.list_file))
    dataset = load(source)
    refuse_other_annotations(predictions, dataset, source.root)
    dataset = _with_sizes(dataset, predictions)
    say([*_doubts(dataset, directory), *_of_which_class(predictions)])
    samples = {sample.image_id: sample for sample in dataset}
    without = sum(len(sample.boxes) == 0 for sample in dataset)
    if without == len(dataset) and (any(sample.masks for sample in dataset) or not need_boxes):
        results, pixels = score(predictions, dataset, (), options.count_missing, options.workers)
        return Evaluation(predictions, samples, dataset, results, pixels, ())
    if without == len(dataset):
        raise UserError(f"none of the {without} images has a ground-truth box", where=source.root,
                        do="look at the predictions with common.report, or localize again with boxes")  # fmt: skip
    protocols = [protocol for protocol in wanted if protocol.frame == predictions.manifest["frame"]]
    if not protocols:
        raise UserError(
            f"no protocol asked for measures in the frame {predictions.manifest['frame']!r}", where=directory,
            expected=", ".join(name for name, each in PROTOCOLS.items() if each.frame == predictions.manifest["frame"])
            or "predictions in another frame",
        )  # fmt: skip
    results, pixels = score(predictions, dataset, protocols, options.count_missing, options.workers)
    return Evaluation(predictions, samples, dataset, results, pixels, ())


def _with_pseudo(
    held: Evaluation, rough: Mapping[str, Boxes], wanted: Sequence[Protocol], options: EvaluationOptions
) -> Evaluation:
    """The same with the curves against pseudo boxes, where there are any."""
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
    if None not in of and held.predictions.manifest["data"].get("fingerprint") not in of:
        say([f"note: {held.predictions.directory}: the pseudo boxes were made of other images, or of images with other "
             "annotations"])  # fmt: skip
    protocols = [protocol for protocol in wanted if protocol.frame == held.predictions.manifest["frame"]]
    results, _ = score(held.predictions, dataset, protocols, options.count_missing, options.workers)
    return replace(held, pseudo=results)


def refuse_other_annotations(predictions: Predictions, dataset: Dataset, root: Path) -> None:
    """Refuse (`UserError`) annotations that are not those that were predicted on, and predictions that disagree."""
    directory = predictions.directory
    labels = {sample.image_id: sample.label for sample in dataset}
    if dataset.fingerprint() != predictions.manifest["data"].get("fingerprint"):
        gone = [image_id for image_id in predictions.skipped if image_id not in labels]
        lines = len(predictions.entries) + len(predictions.skipped)
        if not gone or len(labels) != lines - len(gone) or not predictions.manifest.get("complete"):
            raise UserError("the data set's annotations are not those that were predicted on", where=directory,
                            do=f"check {root}, or localize again")  # fmt: skip
        what = number_of(len(gone), "image that was", "images that were")
        say([f"note: {directory}: gone from the data set: {what} left out when localizing, {some(gone, 1)}; its labels "
             "are those that were predicted on, its boxes can't be compared"])  # fmt: skip
    for entry in predictions.entries:
        if entry.image_id not in labels:
            raise UserError(f"{entry.image_id} is not in the data set", where=directory)
        if entry.label != labels[entry.image_id]:
            raise UserError(f"{entry.image_id} has label {entry.label}", where=directory,
                            expected=f"{labels[entry.image_id]}, as the data set has")  # fmt: skip


def _with_sizes(dataset: Dataset, predictions: Predictions) -> Dataset:
    """The data set with the sizes that the predictions hold, so that no image need be there to be scored.

    A size that the annotations declare is what their boxes are pixels of, and stays; how often it differs is said.
    """
    sizes = {entry.image_id: entry.size for entry in predictions.entries}
    declared = [sample for sample in dataset if sample.declared_size and sample.image_id in sizes]
    if other := [sample for sample in declared if sample.declared_size != sizes[sample.image_id]]:
        what, ids = number_of(len(other), "image is", "images are"), [sample.image_id for sample in other]
        say([f"note: {predictions.directory}: {what} stored in another size than the annotations declare, "
             f"{some(ids, 1)}; boxes are taken as pixels of the declared size"])  # fmt: skip
        turned = [each.image_id for each in other if each.declared_size == sizes[each.image_id][::-1]]
        if turned:
            say([f"warning: {predictions.directory}: of {len(turned)} of them width and height are exchanged, "
                 f"{some(turned, 1)}: their boxes are compared wrongly if the annotations swap the two, or were made "
                 "on the picture as its EXIF tag turns it"])  # fmt: skip
    samples = (
        sample if sample.declared_size else replace(sample, declared_size=sizes.get(sample.image_id))
        for sample in dataset
    )
    return replace(dataset, samples=tuple(samples))


def _of_which_class(predictions: Predictions) -> list[str]:
    """A note where maps are not of the true class, as GT-known has it."""
    if (predictions.manifest.get("options") or {}).get("map_class") != "predicted":
        return []
    return [f"note: {predictions.directory}: maps and boxes are of the predicted class, in GT-known's figures too"]


def _doubts(dataset: Dataset, directory: Path) -> list[str]:
    """Notes on the true boxes as a whole, where they may be of another form than they were read as."""
    boxed = [(sample, sample.declared_size) for sample in dataset if len(sample.boxes)]
    sized = [(sample.image_id, sample.boxes, size) for sample, size in boxed if size is not None]
    if not sized:
        return []
    names, boxes, sizes = zip(*sized, strict=True)
    return [f"note: {directory}: {text}" for text in doubts(names, boxes, sizes)]


def _rows(
    measured: Evaluation, name: str, chosen_on: Evaluation | None, known: str | None, how: Resampling
) -> list[Row]:
    result, manifest = measured.results[name], measured.predictions.manifest
    protocol = result.protocol
    if not measured.predictions.has_maps:
        return [_row(measured, result, np.zeros(len(protocol.criteria), int), "stored", how)]
    rows = []
    fixed = protocol.fixed_threshold(known, manifest["architecture"])
    if fixed is not None:
        rows.append(_row(measured, result, result.nearest(fixed), "released", how))
    held = {} if chosen_on is None else chosen_on.results
    if chosen_on is not None and name in chosen_on.pseudo and chosen_on.pseudo[name].counted.any():
        rows.append(_row(measured, result, chosen_on.pseudo[name].best(), "pseudo", how))
    if name in held and held[name].counted.any():  # of no image there is no best threshold
        rows.append(_row(measured, result, held[name].best(), "validation", how))
    rows.append(_row(measured, result, result.best(), "oracle", how))
    return rows


def _row(measured: Evaluation, result: LocalizationResult, indices: Integers, source: str, how: Resampling) -> Row:
    manifest, values = measured.predictions.manifest, result.at(indices)
    stored = [entry.threshold for entry in measured.predictions.entries]
    threshold = float(np.mean(stored)) if source == "stored" else float(result.thresholds[indices].mean())
    counted = int(result.counted[indices].min())
    left_out = dict(result.left_out)
    for reason in measured.predictions.skipped.values():
        left_out[f"skipped: {reason}"] = left_out.get(f"skipped: {reason}", 0) + 1
    if rest := result.seen - sum(result.left_out.values()) - counted:
        left_out["no region above the threshold"] = rest
    return Row(
        run=str(measured.predictions.directory),
        method=measured.predictions.title,
        protocol=result.protocol.name,
        threshold=threshold,
        source=source,
        classifier=_classifier(manifest.get("classifier") or {}),
        images=counted,
        left_out=left_out,
        top1=_known(values["top1"]),
        top5=_known(values["top5"]),
        gt_known=values["gt_known"],
        over_images=values["over_images"],
        thresholds=tuple(result.thresholds[indices].tolist()),
        label=measured.label,
        intervals=intervals(result, None if source == "oracle" else indices, how),
    )


def _classifier(record: dict[str, Any]) -> str:
    if not record:
        return "none"
    crops = record.get("crops")
    return f"{record.get('name')}, {'crops unknown' if crops is None else f'{crops} crop(s)'}"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _baseline_rows(protocol: str, trivial: TrivialBaselines) -> list[Row]:
    def row(method: str, source: str, gt_known: float, interval: Interval | None) -> Row:
        known = {} if interval is None else {"gt_known": interval}
        return Row("", method, protocol, None, source, "none", trivial.images, trivial.left_out, None, None, gt_known,
                   None, label=method, intervals=known)  # fmt: skip

    return [
        row("whole image", "-", trivial.whole_image, trivial.whole_interval),
        row(
            "best centred box",
            f"side {trivial.centred_side:.2f}, oracle",
            trivial.centred_box,
            trivial.centred_interval,
        ),
    ]
