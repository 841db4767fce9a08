"""The page about segmentation runs: tables of mean IoU, and each image with its class maps, its mask and its truth."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import jinja2
import markupsafe
import numpy as np

from common.datasets import Dataset, Sample
from common.datasets.label_maps import true_label_map
from common.measuring.segmentation import IGNORE, label_map
from common.pictures.images import ImageError, read_rgb
from common.pictures.overlays import encode_jpeg, heated, rescaled
from common.report.figures import Curve, charts
from common.results.segmentation_scoring import SegmentationEvaluation
from common.results.segmentation_tables import class_table, column_names, summary_table
from common.runs.segmentation import SegmentedImage
from common.system.progress import bar


@dataclass(frozen=True)
class Shown:
    """A picture on the page: what it shows, and itself as a data address."""

    caption: str
    address: str


def build(
    evaluations: Sequence[SegmentationEvaluation], most: int, longest: int, environment: jinja2.Environment
) -> str:
    """The page's HTML.

    Args:
        evaluations: of the runs.
        most: pictured images at most, spread evenly over the first run's.
        longest: side of a picture in pixels.
        environment: with the templates.
    """
    curves = [
        Curve(label, number, np.array([r.threshold for r in each.results]),
              100 * np.array([result.miou for result in each.results]))
        for number, (each, label) in enumerate(zip(evaluations, _labels(evaluations), strict=True))
        if each.predictions.kind == "maps"
    ]  # fmt: skip
    return environment.get_template("segmentation.html.j2").render(
        title=", ".join(dict.fromkeys(each.predictions.title for each in evaluations)),
        summary=summary_table(evaluations),
        classes=class_table(evaluations),
        charts=[markupsafe.Markup(svg) for svg in charts("mean IoU by threshold", curves)],
        images=_gallery(evaluations, most, longest),
        palette=[(name, "#{:02x}{:02x}{:02x}".format(*palette()[number]))
                 for number, name in enumerate(evaluations[0].names)],
    )  # fmt: skip


def _labels(evaluations: Sequence[SegmentationEvaluation]) -> list[str]:
    """Method and architecture of each run, with its directory where two have the same."""
    titles = [each.predictions.title for each in evaluations]
    names = column_names(evaluations)
    return [title if titles.count(title) == 1 else f"{title} ({name})"
            for title, name in zip(titles, names, strict=True)]  # fmt: skip


def palette() -> np.ndarray:
    """PASCAL VOC's colours (256, 3) uint8 RGB of labels; 0 is black, 255 near white."""
    numbers, colours = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _gallery(evaluations: Sequence[SegmentationEvaluation], most: int, longest: int) -> list[dict[str, Any]]:
    first = evaluations[0].predictions.entries
    wanted = [first[number] for number in np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).astype(int))]
    datasets = [each.predictions.dataset() for each in evaluations]
    samples = [{sample.image_id: sample for sample in dataset} for dataset in datasets]
    entries = [{entry.image_id: entry for entry in each.predictions.entries} for each in evaluations]
    names = [f"{name}, " for name in column_names(evaluations)] if len(evaluations) > 1 else [""]
    images = []
    for entry in bar(wanted, total=len(wanted), desc="drawing the gallery"):
        try:
            picture = rescaled(read_rgb(samples[0][entry.image_id].path), longest)
        except ImageError:
            continue
        pictures = [Shown("photograph", _address(picture))]
        pictures += _truth(picture, samples[0][entry.image_id], datasets[0])
        for evaluation, known, name in zip(evaluations, entries, names, strict=True):
            if entry.image_id in known:
                looks = _of_run(picture, evaluation, known[entry.image_id])
                pictures += [replace(look, caption=f"{name}{look.caption}") for look in looks]
        images.append({"name": entry.image_id, "pictures": pictures})
    return images


def _truth(picture: np.ndarray, sample: Sample, dataset: Dataset) -> list[Shown]:
    if sample.truth is None:
        return []
    return [Shown("truth", _address(coloured(picture, true_label_map(sample, len(dataset.class_names)))))]


def _of_run(picture: np.ndarray, evaluation: SegmentationEvaluation, entry: SegmentedImage) -> list[Shown]:
    predictions = evaluation.predictions
    if predictions.kind != "maps":
        return [Shown(f"{predictions.kind}", _address(coloured(picture, predictions.mask(entry))))]
    classes, _, high = predictions.maps(entry)
    row = next((row for row in evaluation.rows if row.source == "validation"), evaluation.rows[0])
    names, threshold = predictions.class_names, row.result.threshold
    shown = [Shown(f"map of {names[label]}", _address(heated(picture, values)))
             for label, values in zip(classes, high, strict=True)]  # fmt: skip
    assert threshold is not None  # of class maps each result has one
    labels = label_map(high, classes, threshold)
    return [*shown, Shown(f"maps above {threshold:.2f} ({row.source})", _address(coloured(picture, labels)))]


def coloured(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) under a label map (H, W) of the same proportions; what is ignored is white."""
    shrunk = cv2.resize(labels.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    grey = picture.mean(axis=2, keepdims=True)
    colours = palette()[shrunk].astype(np.float32)
    colours[shrunk == IGNORE] = 255
    share = np.where(shrunk > 0, 0.65, 0.15)[..., None]
    return (share * colours + (1 - share) * grey).astype(np.uint8)


def _address(picture: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture)).decode()
