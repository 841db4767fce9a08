"""Localize a split: segment the foreground, take the box of its largest contour.

    python -m spol.seg.test --checkpoint runs/spol/seg/final.pth --data.name cub --datapath CUB_200_2011 \\
        --top1top5 verdicts/classification.json --out runs/spol/test

Writes predictions directories OUT/crop and OUT/squash for `python -m common.evaluate`, and prints the original's line,
once with its denominator and once with every image in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from common.datasets import Dataset, Sample, trained
from common.measuring.geometry import SQUASH, Frame, frame_kinds
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import SPOL
from common.pytorch.runtime import compiled, for_inference, pick_device, precision
from common.results.tables import figure
from common.runs.localizing import Box, Classes, Localizing
from common.runs.reader import Predictions
from common.runs.writer import PredictionsWriter
from common.system.errors import run_command
from common.system.options import also, parse
from spol import verdicts, weights
from spol.config import recipe, recipe_name
from spol.data import Images, image_batches, stacked
from spol.options import InferenceOptions
from spol.segmentation import foreground, input_kind
from spol.verdicts import Verdicts


@dataclass(frozen=True, kw_only=True)
class Localize(InferenceOptions):
    """Localize a split."""

    snapshot: Annotated[Path, also("checkpoint")]
    """A final.pth or model-<number> of the train command, or an authors' file."""
    top1top5: Annotated[Path | None, also("classes-from")] = None
    """Verdicts of stage cls: classification.json, a predictions directory, or the original's top1top5.npy. Without
    them only GT-known is measured."""
    threshold: float | None = None
    """Foreground is what exceeds it: 0.2 on CUB and 0.8 on ImageNet, as released."""
    frames: tuple[Literal["crop", "squash"], ...] = ("crop", "squash")
    """crop: squashed to 256, the central 224, as released. squash: the whole image, for other papers' protocols."""
    maps: bool = True
    """Store the probabilities; without them only the one box can be scored."""
    count_missing: bool = False
    """Count images without a contour or without a true box left as misses in the printed line."""
    full_image_boxes: bool = False
    """Compare boxes in the whole image in the printed line, not in the crop that cuts the true ones."""


@torch.no_grad()
def localize(options: Localize) -> list[Path]:
    """Localize a split, and return the predictions directories.

    Raises:
        UserError: a checkpoint or verdicts that don't fit, or another run's results in the folder.
    """
    frame_kinds(options.frames)
    device = pick_device(options.device)
    precise = precision(device, options.amp)
    source = options.data.plain()
    dataset = source.load()
    threshold = options.threshold
    if threshold is None:
        threshold = recipe("seg", recipe_name(options.data.name, options.recipe)).threshold
    loaded = weights.load(options.snapshot, "seg")
    classified = verdicts.read(options.top1top5) if options.top1top5 else None
    if classified and options.top1top5:
        classified.check(dataset.samples, options.top1top5)
    network = for_inference(loaded.network, device)
    network.dropout.train(options.mode == "train")
    data = source.described(dataset, options.snapshot)
    if classified:
        data["trained_images"] = trained.joined([data["trained_images"], classified.trained_images])
    header = {
        "method": "spol",
        "architecture": loaded.backbone,
        "checkpoint": loaded.record,
        "data": data,
        "classifier": {"name": classified.classifier, "crops": classified.crops} if classified else None,
        "verdicts": classified.sha256 if classified else None,
        "options": {
            **vars(options.preprocessing), "threshold": threshold, "maps": options.maps, "mode": options.mode,
            "trained_resize": loaded.options.get("resize", 256), "amp": options.amp,
        },
    }  # fmt: skip
    network = compiled(network) if options.compile else network
    with precise:
        directories = _localize(options, dataset, network, classified, header, device)
    if "crop" in options.frames:
        print_released_line(directories[options.frames.index("crop")], dataset, options)
    return directories


def _localize(
    options: Localize,
    dataset: Dataset,
    network: Callable[..., Any],
    classified: Verdicts | None,
    header: dict[str, Any],
    device: torch.device,
) -> list[Path]:
    box, size = Box(SPOL.extractor, header["options"]["threshold"]), options.batch_size
    kinds = dict(zip(options.frames, frame_kinds(options.frames), strict=True))
    inputs = [input_kind(kind, header["options"]["trained_resize"]) for kind in kinds.values()]
    writers = {
        name: PredictionsWriter(options.out / name, {**header, "frame": kind}, options.overwrite)
        for name, kind in kinds.items()
    }

    def left_out(sample: Sample) -> str | None:
        return classified.why_none(sample.image_id) if classified else None

    with Localizing(dataset, writers, size, box=box, store_maps=options.maps, left_out=left_out) as run:
        images = Images(run.left, inputs, options.preprocessing)
        for items in run.batches(image_batches(images, size, options.workers)):
            for number, (name, kind) in enumerate(kinds.items()):
                frames = [Frame.of_kind(kind, item.frames[number].original) for item in items]
                maps = foreground(network, stacked(items, number, device), frames[0].size)
                for item, frame, probability in zip(items, frames, maps, strict=True):
                    verdict = classified.of(item.sample, len(dataset.class_names)) if classified else None
                    classes = Classes(verdict.top5, verdict.scores) if verdict else Classes()
                    run.write(name, item.sample, frame, classes, probability)
    return run.finish()


def print_released_line(directory: Path, dataset: Dataset, options: Localize) -> dict[str, float]:
    """Score the stored boxes as the original does, and print its line.

    Args:
        directory: predictions in the frame `crop`.
        dataset: the annotations.
        options: `count_missing` and `full_image_boxes` change the measurement; see `Localize`.

    Returns:
        `count`, and `top1`, `top5`, `gt_known` as shares; empty where no image has a true box.
    """
    predictions = Predictions.open(directory)
    if not any(len(sample.boxes) for sample in dataset):
        return {}
    lines = {}
    for counted in (options.count_missing, not options.count_missing):
        lines[counted] = score_boxes(predictions, dataset, counted, options.full_image_boxes)
    unreadable = len(_misses(predictions, dataset))
    every = "every image" if not unreadable else f"every image, {unreadable} that were left out as misses among them"
    for counted, line in lines.items():
        what = every if counted else "images with a contour and a true box left, as released"
        where = "whole image" if options.full_image_boxes else "crop"
        top1, top5, gt_known = (figure(line[name], 5) for name in ("top1", "top5", "gt_known"))
        why = "; no image is counted" if line["count"] == 0 else "; nobody classified" if top1 == "-" else ""
        print(f"count={line['count']:.0f} | top1={top1} | top5={top5} | GT-Known={gt_known}   "
              f"({what}; boxes in the {where}{why})")  # fmt: skip
    return lines[options.count_missing]


def score_boxes(
    predictions: Predictions, dataset: Dataset, count_missing: bool = False, full_image: bool = False
) -> dict[str, float]:
    """The original's four numbers, over stored boxes.

    Args:
        predictions: in the frame `crop`.
        dataset: the annotations.
        count_missing: images without a contour, without a true box left in the crop, or that were left out when
            localizing count as misses; those that have no true box at all never count.
        full_image: predicted and true boxes are compared in the whole image, which no crop cuts.

    Returns:
        `count`; `top1`, `top5` and `gt_known` as shares, NaN where nobody classified.
    """
    protocol = replace(SPOL, frame=SQUASH) if full_image else SPOL
    evaluator = LocalizationEvaluator(protocol, [float("nan")], count_missing)
    samples = {sample.image_id: sample for sample in dataset}
    for entry in predictions.entries:
        boxes, frame = entry.boxes, entry.frame
        if full_image:
            original, frame = frame.to_original(boxes), Frame.of_kind(SQUASH, entry.size)
            boxes = frame.to_frame(original)
        truth = samples[entry.image_id].boxes
        evaluator.accumulate_boxes([boxes], frame, truth, entry.label, entry.top5, entry.image_id)
    result = evaluator.compute()
    unreadable = len(_misses(predictions, dataset)) if count_missing else 0
    count = int(result.counted[0]) + unreadable
    share = int(result.counted[0]) / count / 100 if count else float("nan")
    names = {"top1": result.top1, "top5": result.top5, "gt_known": result.gt_known}
    return {"count": count, **{name: float(values[0, 0]) * share for name, values in names.items()}}


def _misses(predictions: Predictions, dataset: Dataset) -> list[str]:
    """Ids of images that were left out when localizing, such as unreadable ones, and that have a true box."""
    return [sample.image_id for sample in dataset if sample.image_id in predictions.skipped and len(sample.boxes)]


def main() -> None:
    """Run the command line."""
    localize(parse(Localize, prog="python -m spol.seg.test", description=__doc__))


if __name__ == "__main__":
    run_command(main)
