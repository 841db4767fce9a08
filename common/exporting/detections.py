"""Predictions as labelled images: which boxes an image gets, with what score, and which images are left out."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from common.datasets import Dataset, Sample
from common.measuring.extraction import LARGEST_COMPONENT, Extractor, cutting
from common.measuring.geometry import Frame
from common.measuring.protocols import GRCAM, PROTOCOLS
from common.pictures.images import ImageError, is_turned, read_size
from common.results.evaluation import EvaluationOptions, held_out
from common.results.rows import GALLERY_ORDER
from common.results.validating import held_of
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.errors import UserError
from common.system.files import read_json


@dataclass(frozen=True)
class Rule:
    """Rule by which boxes are made of a prediction.

    Attributes:
        extractor: cuts the map; None takes the box that is stored.
        threshold: where it is cut.
        source: where the threshold comes from, in words.
        regions: the largest region alone, or every one of at least `share` of its pixels.
        share: see `regions`.
        score: `class`: the classifier's probability of the image's class; `map`: the map's mean within the box.
        least_score: boxes below it are left out.
    """

    extractor: Extractor | None
    threshold: float
    source: str
    regions: Literal["one", "all"] = "one"
    share: float = 0.5
    score: Literal["class", "map"] = "class"
    least_score: float = 0.0


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image of the new data set.

    Attributes:
        sample: with its path and label.
        size: width and height in pixels.
        boxes: (N, 4) float64 `x0 y0 x1 y1` in pixels of the image as stored, end-exclusive, within the image, the
            largest region's first; N is at least 1.
        scores: (N,) in [0, 1].
    """

    sample: Sample
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Chosen:
    """Threshold that was chosen on held-out images.

    Attributes:
        predictions: of these images.
        dataset: they are of.
        protocol: by name.
        threshold: the best one.
    """

    predictions: Predictions
    dataset: Dataset
    protocol: str
    threshold: float


def thresholds_of(options: EvaluationOptions, protocol: str | None, source: str = "validation") -> list[Chosen]:
    """The protocol and the best threshold of each validation directory.

    Args:
        options: their `validation` directories are measured; only these need boxes.
        protocol: by name; None takes the one that stands for a run in its frame, of those that options name.
        source: `validation`, their true boxes, or `pseudo`.

    Raises:
        UserError: there are no validation directories, or no boxes of them.
    """
    if not options.validation:
        raise UserError("no threshold was chosen", do="give --validation predictions of held-out images with boxes, "
                                                      "or --threshold, or --boxes-at stored")  # fmt: skip
    if source == "pseudo" and not options.pseudo:
        raise UserError("--boxes-at pseudo without --pseudo", do="name what common.pseudo_boxes wrote")
    chosen = []
    for evaluation in held_out(options if protocol is None else replace(options, protocols=(protocol,))):
        results = evaluation.pseudo if source == "pseudo" else evaluation.results
        name = next((name for name in GALLERY_ORDER if name in results and results[name].counted.any()), None)
        if name is None:
            raise UserError("none of these images has a box to choose a threshold by",
                            where=evaluation.predictions.directory)  # fmt: skip
        result = results[name]
        best = result.best()[result.protocol.criteria.index(0.5)]
        chosen.append(Chosen(evaluation.predictions, evaluation.dataset, name, float(result.thresholds[best])))
    return chosen


def rule_on_validation(predictions: Predictions, chosen: list[Chosen]) -> tuple[Extractor, Chosen]:
    """Extractor of one box an image, and the threshold from the validation directory of the same model.

    A protocol that lets the best of all contours count takes it by the true box; here it is the largest.

    Raises:
        UserError: there is none.
    """
    held = held_of(predictions, chosen)
    if held is not None:
        return PROTOCOLS[held.protocol].extractor.of_one_region(), held
    raise UserError("no --validation predictions of the same checkpoint and frame", where=predictions.directory)


Place = tuple[str, str]
"""Split and image id."""


@dataclass(frozen=True)
class Review:
    """Decisions about the images: `{"keep": [...], "drop": [...]}`; with `keep` nothing else is taken.

    An image is named by its id, or as `split/id`, which it must be where two splits have that id.
    """

    keep: Collection[Place] = ()
    drop: Collection[Place] = ()

    @classmethod
    def read(cls, path: Path | None, known: Mapping[str, Collection[str]]) -> "Review":
        """The file's lists, or an empty review where there is no file.

        Args:
            path: the file.
            known: the image ids of each split.

        Raises:
            UserError: not such a file, an image that no predictions have, one of two splits, one in both lists, or an
                empty list of what to keep.
        """
        if path is None:
            return cls()
        stored = read_json(path)
        if not isinstance(stored, dict) or not stored.keys() <= {"keep", "drop"} or not all(
            isinstance(ids, list) and all(isinstance(image_id, str) for image_id in ids) for ids in stored.values()
        ):  # fmt: skip
            raise UserError("not a review", where=path, expected='{"keep": [image ids], "drop": [image ids]}')
        if stored.get("keep") == []:
            raise UserError("the review keeps no image", where=path, do="leave out keep, or name images in it")
        places: dict[str, set[Place]] = {}
        for split, image_ids in known.items():
            for image_id in image_ids:
                for name in (image_id, f"{split}/{image_id}"):
                    places.setdefault(name, set()).add((split, image_id))
        keep, drop = (_named(stored.get(key, ()), places, path) for key in ("keep", "drop"))
        if both := sorted(keep & drop):
            raise UserError(f"{both[0][1]} is to be kept and to be dropped", where=path)
        return cls(keep, drop)

    def says_no(self, split: str, image_id: str) -> str | None:
        """Why an image is left out, or None."""
        if (split, image_id) in self.drop:
            return "dropped in the review"
        return "not kept in the review" if self.keep and (split, image_id) not in self.keep else None


def _named(names: Collection[str], places: Mapping[str, set[Place]], path: Path) -> set[Place]:
    if unknown := sorted(set(names) - places.keys()):
        raise UserError(f"{len(unknown)} of its images are in no predictions, {unknown[0]} among them", where=path)
    for name in names:
        if len(places[name]) > 1:
            each = [f"{split}/{image_id}" for split, image_id in sorted(places[name])]
            raise UserError(f"{name} is an image of {len(each)} splits", where=path, do=f"write {' or '.join(each)}")
    return {place for name in names for place in places[name]}


def labelled_images(
    predictions: Predictions, dataset: Dataset, rule: Rule, review: Review, left_out: Counter[str]
) -> Iterator[LabelledImage]:
    """Images that get a box, one after another; the others are counted by reason in `left_out`."""
    samples = {sample.image_id: sample for sample in dataset}
    for skipped in predictions.skipped.values():
        left_out[f"skipped by the method: {skipped}"] += 1
    for entry in predictions.entries:
        sample = samples[entry.image_id]
        reason = review.says_no(dataset.split, entry.image_id) or _unfit(sample, entry)
        if reason is None:
            boxes, scores = boxes_of(predictions, entry, rule)
            kept = scores >= rule.least_score
            reason = None if kept.any() else "no box of the least score" if len(boxes) else "no region found"
        if reason is not None:
            left_out[reason] += 1
            continue
        yield LabelledImage(sample, entry.size, boxes[kept], scores[kept])


def _unfit(sample: Sample, entry: Prediction) -> str | None:
    try:
        if is_turned(sample.path):
            return "turned by its EXIF tag, which trainers follow and boxes of stored pixels do not"
        size = read_size(sample.path)
    except ImageError:
        return "the image can't be read"
    return None if size == tuple(entry.size) else "its picture has another size than the one that was localized"


def boxes_of(predictions: Predictions, entry: Prediction, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """One prediction's boxes (N, 4) in pixels of the original image, within it, and their scores (N,)."""
    needs_map = rule.extractor is not None or rule.regions == "all" or rule.score == "map"
    if needs_map and not predictions.has_maps:
        raise UserError("these predictions have no maps", where=predictions.directory,
                        do="localize again with maps, or take --boxes-at stored --regions one")  # fmt: skip
    localization_map = predictions.map(entry) if needs_map else None
    found = entry.boxes if localization_map is None else _found(localization_map, entry, rule)
    if localization_map is not None and rule.score == "map":
        scores = np.array([_mean_within(localization_map, box) for box in found])
    else:
        scores = np.full(len(found), class_probability(entry))
    boxes = in_image(_of_a_pixel(found), entry.frame)
    within = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    return boxes[within], scores[within]


def _found(localization_map: np.ndarray, entry: Prediction, rule: Rule) -> np.ndarray:
    """Boxes (N, 4) in the frame."""
    if rule.regions == "all":
        if rule.extractor is None:
            extractor, threshold = cut_of_stored(localization_map, entry), entry.threshold
        else:
            extractor, threshold = rule.extractor, rule.threshold
        return large_regions(localization_map, extractor, threshold, rule.share)
    if rule.extractor is None:
        return entry.boxes
    (found,) = rule.extractor.boxes(localization_map, [rule.threshold])
    return found[:1]


def cut_of_stored(localization_map: np.ndarray, entry: Prediction) -> Extractor:
    """The extractor that gives the box that is stored: predictions don't say which one did."""
    for extractor in (LARGEST_COMPONENT, GRCAM.extractor):
        (found,) = extractor.boxes(localization_map, [entry.threshold])
        if np.array_equal(found, entry.boxes):
            return extractor
    return LARGEST_COMPONENT


def _of_a_pixel(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) at least a pixel wide and high: a region in the last column has no width in a protocol that ends
    boxes on the last pixel.
    """
    return np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)], axis=1)


def large_regions(localization_map: np.ndarray, extractor: Extractor, threshold: float, share: float) -> np.ndarray:
    """Boxes (N, 4) of the 8-connected regions that have at least `share` of the largest one's pixels, largest first.

    The map is cut as the extractor cuts it; boxes are in its frame, end-exclusive.
    """
    found = regions(localization_map, extractor, threshold)
    found = found[found[:, 4] >= share * found[:1, 4]]
    boxes = found[:, :4].astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return extractor.finish(boxes, localization_map.shape)


def regions(localization_map: np.ndarray, extractor: Extractor, threshold: float) -> np.ndarray:
    """(N, 5) int of 8-connected regions, largest first: x, y, width and height in the map's frame, and pixels."""
    surface, levels_of = cutting(localization_map, extractor.cut)
    (level,) = levels_of([threshold])
    mask = (surface > level).view(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(mask, 8, cv2.CV_32S, cv2.CCL_WU)
    found: np.ndarray = stats[1:]
    return found[np.argsort(-found[:, cv2.CC_STAT_AREA], kind="stable")]


def class_probability(entry: Prediction) -> float:
    """The classifier's probability of the image's own class: 0 where it is not among its five best, 1 where nobody
    classified."""
    if entry.top5 is None or entry.top5_scores is None:
        return 1.0
    return float(entry.top5_scores[entry.top5.index(entry.label)]) if entry.label in entry.top5 else 0.0


def _mean_within(localization_map: np.ndarray, box: np.ndarray) -> float:
    x0, y0, x1, y1 = (round(value) for value in box)
    within = localization_map[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return float(within.mean()) if within.size else 0.0


def in_image(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    """Boxes (N, 4) of a frame in pixels of the original image, cut at its edges."""
    return np.clip(frame.to_original(boxes), 0.0, np.tile(frame.original, 2).astype(float))
