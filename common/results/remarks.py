"""Remarks on predictions that are scored: what figures are of, where a reader would take them for something else."""

from pathlib import Path

import numpy as np

from common.measuring.arrays import Boxes, Floats
from common.measuring.extraction import LARGEST_COMPONENT
from common.measuring.plausible import class_doubts
from common.runs.reader import Predictions
from common.runs.record import LINES, map_path
from common.system.wording import number_of, some


def remarks(predictions: Predictions) -> list[str]:
    """Notes: the predicted class's maps, a part of a split, other numbers of classes, maps made anew."""
    texts = [
        *_of_which_class(predictions),
        *_of_which_part(predictions),
        *_of_which_numbers(predictions),
        *_made_anew(predictions),
    ]
    return [f"note: {predictions.directory}: {text}" for text in texts]


def _of_which_class(predictions: Predictions) -> list[str]:
    """Say so where maps are not of the true class, as GT-known has it."""
    if predictions.manifest.options.get("map_class") != "predicted":
        return []
    return ["maps and boxes are of the predicted class, in GT-known's figures too"]


def _of_which_numbers(predictions: Predictions) -> list[str]:
    """Say so where the classifier's classes seem to have other numbers than the data set's."""
    classified = [(entry.label, entry.top5[:1]) for entry in predictions.entries if entry.top5]
    labels, best = [label for label, _ in classified], [first for _, first in classified]
    return class_doubts(labels, best)


def _of_which_part(predictions: Predictions) -> list[str]:
    """Say so where one machine's share of a split stands for the split."""
    shard = predictions.manifest.shard
    if shard is None:
        return []
    return [f"figures are of the part {shard} of the split alone; common.merge puts parts together"]


def _made_anew(predictions: Predictions) -> list[str]:
    """Say so where maps of other code, which adopted predictions link to, are others than the stored boxes are of."""
    directory = predictions.directory
    taken_in = (directory / LINES).stat().st_mtime_ns
    newer = [entry for entry in predictions.entries if _is_newer_link(map_path(directory, entry.image_id), taken_in)]
    anew = [entry.image_id for entry in newer
            if not np.array_equal(_cut(predictions.map(entry), entry.threshold), entry.boxes)]  # fmt: skip
    if not anew:
        return []
    what = number_of(len(anew), "map was", "maps were")
    return [f"{what} made anew since these predictions took them in, {some(anew, 1)}; stored boxes are of the earlier "
            "ones; common.adopt --overwrite takes all in again"]  # fmt: skip


def _cut(localization_map: Floats, threshold: float) -> Boxes:
    """The box (N, 4) as common.adopt stores it."""
    (boxes,) = LARGEST_COMPONENT.boxes(localization_map, [threshold])
    return boxes


def _is_newer_link(path: Path, time: int) -> bool:
    if not path.is_symlink() or not path.exists():
        return False
    told = path.stat()
    return max(told.st_mtime_ns, told.st_ctime_ns) > time  # a file that was moved there may be of an earlier day
