"""A whole detection data set out of predictions directories, one a split."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.datasets import Dataset
from common.datasets.copies import shared_images
from common.exporting import formats
from common.exporting.detections import (
    Chosen,
    LabelledImage,
    Review,
    Rule,
    labelled_images,
    rule_on_validation,
    thresholds_of,
)
from common.measuring.extraction import LARGEST_COMPONENT
from common.results import box_quality, leakage
from common.results.annotations import annotations_of
from common.results.box_quality import Found, Place, need_pycocotools
from common.results.evaluation import EvaluationOptions
from common.results.scoring import frame_of_truth
from common.runs.localizing import need_threshold
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.errors import UserError, inside, printable
from common.system.files import holds_files, read_json, write_json, write_text, writing
from common.system.locks import hold, release
from common.system.progress import bar
from common.system.wording import number_of, some

UNFINISHED, MADE = ".unfinished", ".exported"
"""Files that name what an export writes at the top of its folder: while it goes on, and once it is whole."""
MANIFEST = "export.json"
"""Says of each split whose predictions its boxes are, and which of its images the network was trained on."""


@dataclass(frozen=True)
class DetectionOptions:
    """Rules by which predictions become a detection data set."""

    regions: Literal["one", "all"] = "one"
    """The largest region of an image alone, or every region of at least --share of its pixels (needs maps)."""
    share: float = 0.5
    """Share of the largest region's pixels that another region needs."""
    threshold: float | None = None
    """Cut every map here, in place of a threshold that was chosen."""
    score: Literal["class", "map"] = "class"
    """A box's score: the classifier's probability of the image's class, or the map's mean within the box."""
    min_score: float = 0.0
    """Leave out boxes below it."""
    review: Path | None = None
    """A JSON file of image ids, {"keep": [...], "drop": [...]}: leave out what is dropped, or not kept. split/id names
    an image whose id two splits have."""
    images: formats.Transfer = "link"
    """Link to the images, or copy them."""


@dataclass(frozen=True)
class Split:
    """One predictions directory of the new data set.

    Attributes:
        predictions: as read.
        dataset: they are of.
        rule: makes their boxes.
        chosen: where its threshold was chosen by true boxes, None where it was not.
    """

    predictions: Predictions
    dataset: Dataset
    rule: Rule
    chosen: Chosen | None = None


def splits_of(
    options: EvaluationOptions, detection: DetectionOptions, boxes_at: str, protocol: str | None
) -> list[Split]:
    """Every predictions directory with its data set and the rule that makes its boxes.

    Raises:
        UserError: two directories are of one split, classes differ, annotations are others than those that were
            predicted on, or a threshold was not chosen.
    """
    _need_rules(detection)
    if boxes_at in ("released", "oracle"):
        raise UserError(f"--boxes-at {boxes_at} with a detection data set",
                        expected="validation, pseudo or stored, or --threshold")  # fmt: skip
    opened = [Predictions.open(directory, options.incomplete) for directory in options.runs]
    fixed = detection.threshold is not None or boxes_at == "stored"
    chosen = [] if fixed else thresholds_of(options, protocol, boxes_at)
    splits: dict[str, Split] = {}
    for predictions in opened:
        predictions.need("method", "architecture", "frame", "checkpoint")
        dataset = annotations_of(predictions, options.places)
        if dataset.split in splits:
            raise UserError(f"two directories are of the split {dataset.split!r}", where=predictions.directory,
                            do="name one frame of each split")  # fmt: skip
        splits[dataset.split] = Split(predictions, dataset, *_rule(predictions, detection, boxes_at, chosen))
    names = {split.dataset.class_names for split in splits.values()}
    if len(names) > 1:
        raise UserError(f"the splits {', '.join(splits)} have different classes", do="export them apart")
    return list(splits.values())


def _need_rules(detection: DetectionOptions) -> None:
    if not 0 < detection.share <= 1 or not 0 <= detection.min_score <= 1:
        raise UserError(f"--share {detection.share} --min-score {detection.min_score}", expected="both within 0 to 1")
    if detection.threshold is not None:
        need_threshold(detection.threshold)


def need_exportable(
    detection: DetectionOptions, kind: str, out: Path, ids: Mapping[str, Sequence[str]], overwrite: bool
) -> Review:
    """Refuse what an export of images would refuse, as far as their ids by split tell; gives the review.

    Raises:
        UserError: rules or a review of no use, names that the format can't tell apart, or an `out` of something else.
    """
    _need_rules(detection)
    if kind in ("yolo", "voc", "labelme"):
        formats.check_names(ids, kind)
    review = Review.read(detection.review, ids)
    _need_room(out, _top(kind, ids), overwrite)
    return review


def _top(kind: str, ids: Mapping[str, Sequence[str]]) -> list[str]:
    return [MANIFEST, *formats.TOP[kind], *(ids if kind == "labelme" else ())]


def _rule(
    predictions: Predictions, detection: DetectionOptions, boxes_at: str, chosen: list[Chosen]
) -> tuple[Rule, Chosen | None]:
    common = (detection.regions, detection.share, detection.score, detection.min_score)
    if detection.threshold is not None:
        return Rule(LARGEST_COMPONENT, detection.threshold, "as asked for", *common), None
    if boxes_at == "stored":
        return Rule(None, float("nan"), "stored", *common), None
    extractor, found = rule_on_validation(predictions, chosen)
    by = "pseudo boxes of " if boxes_at == "pseudo" else ""
    source = f"{found.protocol}, chosen on {by}{found.predictions.directory}"
    return Rule(extractor, found.threshold, source, *common), None if boxes_at == "pseudo" else found


def export_dataset(
    options: EvaluationOptions, detection: DetectionOptions, kind: str, out: Path, overwrite: bool,
    boxes_at: str = "validation", protocol: str | None = None, measure: bool = False,
) -> list[str]:  # fmt: skip
    """Write the data set below `out`, and say in lines what is in it.

    Until all is written a file says so, and the same command replaces what a stopped one left.

    Raises:
        UserError: what can't be exported, or `out` holds something else.
    """
    splits = splits_of(options, detection, boxes_at, protocol)
    if measure:
        _need_truth(splits, detection)
    hold(out)
    unfinished, made = out / UNFINISHED, out / MADE
    ids = {split.dataset.split: [entry.image_id for entry in split.predictions.entries] for split in splits}
    _refuse_own_images(splits, out)
    review = need_exportable(detection, kind, out, ids, overwrite)
    top = _top(kind, ids)
    _make_room(out)
    write_text(unfinished, f"{json.dumps(top)}\n")
    left_out: dict[str, Counter[str]] = {split: Counter() for split in ids}
    counted: dict[str, dict[str, int]] = {}
    found: dict[str, dict[Place, Found]] = {split: {} for split in ids if measure}
    writer = formats.WRITERS[kind](out, splits[0].dataset.class_names, detection.images)
    notes = formats.write_all(writer, _images(splits, review, left_out, found), counted)
    rules = {name: str(value) if isinstance(value, Path) else value for name, value in vars(detection).items()}
    write_json(out / MANIFEST, {"format": kind, "rules": rules, "splits": {
        split.dataset.split: {
            **manifest(split.predictions), **counted.get(split.dataset.split, {"images": 0, "boxes": 0}),
            "left_out": dict(left_out[split.dataset.split]), "threshold_from": split.rule.source,
            "threshold": None if split.rule.extractor is None else split.rule.threshold,
        }
        for split in splits
    }})  # fmt: skip
    write_text(made, f"{json.dumps(top)}\n")
    unfinished.unlink()
    release(out)
    said = [printable(line) for line in leakage.lines([split.predictions for split in splits])]
    measured = _measured(splits, found, detection) if measure else []
    return [*_summary(splits, counted, left_out), *notes, *_of_what(splits), *_in_two_splits(splits), *measured, *said]


def _of_what(splits: list[Split]) -> list[str]:
    """A line for each split whose boxes may be of another class than they are called, or that is a part of one."""
    lines = []
    for split in splits:
        name, predictions = split.dataset.split, split.predictions
        if predictions.manifest.options.get("map_class") == "predicted":
            lines += _of_other_classes(name, predictions.entries)
        if shard := predictions.manifest.shard:
            lines.append(f"{name}: the part {shard} of the split alone; common.merge puts parts together")
    return [printable(line) for line in lines]


def _of_other_classes(split: str, entries: Sequence[Prediction]) -> list[str]:
    """A line where boxes are of the predicted class and that may be another than the image's own."""
    classified = all(entry.top5 for entry in entries)
    other = [entry.image_id for entry in entries if entry.top5 and entry.top5[0] != entry.label]
    if classified and not other:
        return []
    which = f"another for {len(other)} of {len(entries)} images, {some(other, 1)}" if classified else "unknown"
    return [f"{split}: boxes are called as the image's own class, and are of the predicted one, which is {which}"]


def _in_two_splits(splits: list[Split]) -> list[str]:
    """A line for each two splits that share images, on which a detector would be trained and measured."""
    lines = []
    for one, other in combinations([split.dataset for split in splits], 2):
        if shared := shared_images(other, one):
            lines.append(f"{other.split}: {len(shared)} of its images are in {one.split} too, {shared[0]} among them")
    return [printable(line) for line in lines]


def manifest(predictions: Predictions) -> dict[str, Any]:
    """Say whose predictions are exported, and what is known against them: which images were trained or chosen on."""
    leak, stored = leakage.of(predictions), predictions.manifest
    return {
        "predictions": str(predictions.directory), "method": predictions.title, "checkpoint": stored.get("checkpoint"),
        "data": {name: stored.data.get(name) for name in ("name", "split", "fingerprint")},
        "leakage": leak.text, "trained_on": list(leak.images), "chosen_on": list(leak.chosen),
    }  # fmt: skip


def _refuse_own_images(splits: list[Split], out: Path) -> None:
    """Refuse (`UserError`) to write where the exported images lie, as in an earlier export that would be deleted."""
    folders = {sample.path.parent for split in splits for sample in split.dataset}
    if any(folder.resolve().is_relative_to(out.resolve()) for folder in folders):
        raise UserError("the images to export lie in this very folder", where=out, do="choose another --out")


def _written_by_export(out: Path) -> set[str]:
    """Names at the top of a folder that a stopped or an earlier export wrote."""
    ours: set[str] = set()
    for marker in (out / UNFINISHED, out / MADE):
        if marker.is_file():
            names = read_json(marker)
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise UserError("not a list of names", where=marker, do="delete the folder")
            ours |= set(names)
    return ours


def _need_room(out: Path, top: list[str], overwrite: bool) -> None:
    """Refuse (`UserError`) a folder that holds something else, or, unless told so, an earlier export."""
    ours = _written_by_export(out)
    others = sorted({path.name for path in out.iterdir()} - ours) if out.is_dir() else []
    if not overwrite and not (out / UNFINISHED).is_file() and holds_files(out):
        raise UserError("the folder is not empty", where=out, do="choose another --out, or say --overwrite")
    if taken := sorted(set(others) & set(top)):
        raise UserError("this was not written by an export", where=out / taken[0], do="choose another --out")


def _make_room(out: Path) -> None:
    """Take away what a stopped or an earlier export left; nothing of another origin."""
    for name in _written_by_export(out):
        path = inside(out, name, where=out)
        with writing(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _images(
    splits: list[Split],
    review: Review,
    left_out: dict[str, Counter[str]],
    found: dict[str, dict[Place, Found]],
) -> Iterator[tuple[str, LabelledImage]]:
    total = sum(len(split.predictions.entries) for split in splits)
    with bar(total=total, desc="exporting") as progress:
        for split in splits:
            name, before = split.dataset.split, 0
            for number, image in enumerate(
                labelled_images(split.predictions, split.dataset, split.rule, review, left_out[name]), start=1
            ):
                if name in found:
                    found[name][image.sample.image_id, image.sample.label] = Found(image.boxes, image.scores)
                yield name, image
                seen = number + sum(left_out[name].values())
                progress.update(seen - before)
                before = seen


def _need_truth(splits: list[Split], detection: DetectionOptions) -> None:
    """Refuse (`UserError`) before anything is written what `--measure` could not do in the end."""
    if not any(len(sample.boxes) for split in splits for sample in split.dataset):
        raise UserError("--measure where no image has a true box", where=splits[0].predictions.directory,
                        do="leave it out, or localize again with boxes")  # fmt: skip
    if detection.regions == "all":
        need_pycocotools()


def _true_boxes(split: Split) -> tuple[dict[Place, np.ndarray], dict[str, tuple[int, int]]]:
    """True boxes in pixels of the images as stored, where there are some, and these images' sizes."""
    samples = {sample.image_id: sample for sample in split.dataset}
    truth, sizes = {}, {}
    for entry in split.predictions.entries:
        sample = samples[entry.image_id]
        if len(sample.boxes):
            declared = frame_of_truth(entry, sample).original
            truth[entry.image_id, sample.label] = sample.boxes * np.tile(np.divide(entry.size, declared), 2)
            sizes[entry.image_id] = entry.size
    return truth, sizes


def _measured(splits: list[Split], found: dict[str, dict[Place, Found]], detection: DetectionOptions) -> list[str]:
    """Describe the boxes of each split in lines; an image that was left out has no box, and is a miss."""
    said = []
    for split in splits:
        name, (truth, sizes) = split.dataset.split, _true_boxes(split)
        lines = box_quality.lines(found[name], truth, sizes if detection.regions == "all" else None)
        said += [f"{name}: {line}" for line in (lines if truth else ["no image has a true box"])]
        if split.chosen is not None and (seen := shared_images(split.chosen.dataset, split.dataset)):
            said.append(f"{name}: the threshold was chosen on {len(seen)} of these images, so that their figures are "
                        "optimistic")  # fmt: skip
    return said


def _summary(splits: list[Split], counted: dict[str, dict[str, int]], left_out: dict[str, Counter[str]]) -> list[str]:
    lines = []
    for split in splits:
        name, rule = split.dataset.split, split.rule
        counts = counted.get(name, {"images": 0, "boxes": 0})
        at = "" if rule.extractor is None else f" @{rule.threshold:.3g}"
        lines.append(f"{name}: {counts['images']} images, {counts['boxes']} boxes, threshold{at} {rule.source}")
        for reason, count in left_out[name].items():
            lines.append(f"{name}: {number_of(count, 'image', 'images')} left out: {reason}")
    return lines
