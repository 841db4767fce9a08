"""Localize a data set with the maps of a classifier that no method trained: DGL, GRCAM, Grad-CAM, CAM, at any layers.

    python -m common.pytorch.maps.localize --checkpoint runs/cub/final.pth --data.name cub --data.root CUB_200_2011 \\
        --data.split held --data.held-per-class 5 --layers all --table wsoleval-v2 --out runs/cub/held-maps

Each method and layer has a folder OUT/<method>-<layer>-<frame>, which every protocol can score. --table shows GT-known
of each at the threshold that these images choose, and which layer is best on them: run it on held-out images, then
localize the test images with that layer alone, and score them with --validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from common.datasets import Dataset, classes
from common.measuring.extraction import min_max
from common.measuring.geometry import FRAMES, SIDE, frame_kinds
from common.measuring.protocols import GRCAM, PROTOCOLS
from common.pytorch import cam, twins
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.data import LocalizationImages, LocalizationItem, localization_loader, normalized
from common.pytorch.localization import LocalizeOptions, input_side
from common.pytorch.maps.evidence import ALPHA
from common.pytorch.maps.mapper import OF_TWO_GRADIENTS, Mapper
from common.pytorch.runtime import compiled, for_inference, pick_device, precision
from common.results.evaluation import EvaluationOptions, evaluate
from common.results.rows import Row
from common.results.tables import figure, render
from common.runs.localizing import Box, Classes, Localizing, best_classes, need_threshold
from common.runs.provenance import known_of
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.tensorflow_files.checkpoint import open_checkpoint

Run = tuple[str, str, str]
"""Method, layer, frame."""


@dataclass(frozen=True, kw_only=True)
class Localize(LocalizeOptions):
    """Write maps of several methods and layers as predictions directories, one for each and each frame."""

    checkpoint: str
    """A final.pth of common.pytorch.cam; imagenet:<arch>; or with --mode an authors' TensorFlow checkpoint."""
    mode: Annotated[Literal["vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1"] | None, also("arch")] = None
    """Network of a TensorFlow checkpoint, as dgl_tf and grcam call it; it needs no TensorFlow."""
    methods: tuple[Literal["dgl", "grcam", "grad-cam", "cam"], ...] = ("dgl", "cam")
    """Maps to make; grcam and cam are of the last layer."""
    layers: tuple[str, ...] = ("0",)
    """Layers by module name, by number counted from the last map down, or all; dgl_tf.test takes 2, as released."""
    alpha: float = ALPHA
    """Factor of the label, for dgl and grcam."""
    gradient: Literal["released", "true"] = "released"
    """released: p - alpha y. true: alpha (p - y)."""
    amp: Literal["off", "fp16", "bf16"] = "off"
    """Mixed precision of the ten crops' classes; maps are made in float32, since their boxes would move. fp16 needs
    CUDA."""
    map_class: Literal["label", "predicted"] | None = None
    """Class whose map is made: the true class's (GT-known), or the best-scoring one's of the frame."""
    threshold: float = 0.15
    """Threshold of the box that is stored beside the map; protocols choose their own."""
    table: str | None = None
    """Protocol of a table of all methods and layers at the end, at the threshold that these images choose."""


def localize(options: Localize) -> list[Path]:
    """Localize, show the table where one is asked for, and return the predictions directories."""
    kinds = dict(zip(options.frames, frame_kinds(options.frames), strict=True))
    _check_table(options, kinds)
    need_threshold(options.threshold)
    device = pick_device(options.device)
    dataset = options.data.load()
    model, architecture, checkpoint, names = load_classifier(options)
    matching = classes.match(
        dataset, names, model.head.out_features, options.checkpoint, index=options.data.class_index,
        imagenet=options.checkpoint.startswith("imagenet:"),
    )  # fmt: skip
    options = replace(options, map_class=classes.which_map(options.map_class, matching))
    for_inference(model, device)
    mapper = Mapper(model, options.methods, options.layers, options.alpha, options.gradient)
    side = input_side(options, checkpoint)
    runs = mapper.runs(torch.zeros(1, 3, side, side, device=device))
    shared = {"checkpoint": checkpoint, "data": options.data.described(dataset, options.checkpoint)}
    writers: dict[Run, PredictionsWriter] = {
        (method, layer, frame): _writer(options, shared, architecture, (method, layer, frame), matching)
        for frame in options.frames
        for method, layer in runs
    }
    directories = _localize(options, matching.for_network(dataset), mapper, device, writers, side)
    if options.table is not None:
        print("\n" + layer_table(writers, options.table))
    return directories


def load_classifier(options: Localize) -> tuple[CamClassifier, str, dict[str, Any], tuple[str, ...] | None]:
    """A classifier, its architecture, what the manifest says of its checkpoint, and its classes where it knows them.

    Raises:
        UserError: no such checkpoint, or one of another network.
    """
    if options.mode is None:
        return cam.load_classifier(options.checkpoint)
    opened = open_checkpoint(options.checkpoint)
    model = twins.load(opened, options.mode)
    told = known_of(options.checkpoint)
    record: dict[str, Any] = {"name": opened.name, "sha256": opened.fingerprint(), "training": told.training}
    record |= {} if told.input_size == SIDE else {"input_size": told.input_size}
    return model, options.mode, record, told.class_names


def _check_table(options: Localize, kinds: Mapping[Any, str]) -> None:
    if options.table is None:
        return
    if options.table not in PROTOCOLS:
        raise UserError(f"--table {options.table}", expected=f"one of {', '.join(PROTOCOLS)}")
    if PROTOCOLS[options.table].frame not in kinds.values():
        wanted = next(name for name, kind in FRAMES.items() if kind == PROTOCOLS[options.table].frame)
        raise UserError(f"--table {options.table} measures in the frame {wanted}", do=f"say --frames {wanted}")
    if not options.maps:
        raise UserError("--table chooses thresholds, for which maps must be stored", do="leave --no-maps out")


def _writer(
    options: Localize, shared: dict[str, Any], architecture: str, run: Run, matching: classes.Matching
) -> PredictionsWriter:
    method, layer, frame = run
    named = ("map_class", "threshold", "resize", "maps", "amp")
    stored = {name: getattr(options, name) for name in named} | {"layer": layer}
    if options.input_size is not None:
        stored["input_size"] = options.input_size
    if method in OF_TWO_GRADIENTS:
        stored |= {"alpha": options.alpha, "gradient": options.gradient}
    header = {
        **shared, "method": method, "architecture": f"{architecture} {layer}", "frame": FRAMES[frame],
        "classifier": {"name": architecture, "crops": options.crops}, "options": stored,
    }  # fmt: skip
    return PredictionsWriter(options.out / "-".join(run).replace("/", "_"), header, options.overwrite, classes=matching)


def _localize(
    options: Localize,
    dataset: Dataset,
    mapper: Mapper,
    device: torch.device,
    writers: dict[Run, PredictionsWriter],
    side: int,
) -> list[Path]:
    box = Box(GRCAM.extractor, options.threshold)
    model: Any = mapper.model
    look = compiled(model) if options.compile else model
    kinds = frame_kinds(options.frames)

    def pixels(images: Sequence[Tensor]) -> Tensor:
        return normalized(torch.stack(list(images)), model.mean, model.std, device)

    with (
        Localizing(dataset, writers, options.batch_size, box=box, store_maps=options.maps) as run,
        precision(device, options.amp),
    ):
        images = LocalizationImages(run.left, kinds, options.crops, options.resize, side)
        loader = localization_loader(images, options.batch_size, options.workers)
        for items in run.batches(loader):
            known = _ten_crops(look, items, pixels) if options.crops == 10 else None
            ranked = None
            labels = torch.tensor([item.sample.label for item in items]) if options.map_class == "label" else None
            for number, frame in enumerate(options.frames):
                found = mapper(pixels([item.views[number] for item in items]), labels)
                if known is None:  # of one crop: the first frame's
                    known, ranked = found.scores.softmax(dim=1), found.scores.cpu().numpy()
                classes = best_classes(known.cpu().numpy(), [item.sample for item in items], ranked)
                for (method, layer), maps in found.maps.items():
                    _write(run, (method, layer, frame), items, number, classes, maps)
    return run.finish()


def _write(
    run: Localizing[Run], key: Run, items: Sequence[LocalizationItem], number: int, classes: Sequence[Classes],
    maps: Tensor,
) -> None:  # fmt: skip
    for item, raw, best in zip(items, maps.cpu().numpy(), classes, strict=True):
        if not run.done(key, item.sample):
            frame = item.frames[number]
            run.write(key, item.sample, frame, best, enlarged(raw, frame.size))


@torch.no_grad()
def _ten_crops(look, items: Sequence[LocalizationItem], pixels) -> Tensor:
    """Class probabilities (N, K), the mean over ten crops of each image."""
    return torch.stack([look(pixels(item.crops)).scores.float().softmax(dim=1).mean(dim=0) for item in items])


def enlarged(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) as a localization map of `size` (width, height) in [0, 1]: stretched, then enlarged bilinearly."""
    return np.clip(cv2.resize(min_max(raw.astype(np.float32)), size, interpolation=cv2.INTER_LINEAR), 0, 1)


def layer_table(writers: dict[Run, PredictionsWriter], protocol: str) -> str:
    """GT-known of every method and layer under a protocol, and the best, as text.

    Each at the threshold that is best on these images, so that it serves to choose a layer, and is no result.
    """
    frame = next(name for name, kind in FRAMES.items() if kind == PROTOCOLS[protocol].frame)
    runs = {run: writer.directory for run, writer in writers.items() if run[2] == frame}
    evaluations, baselines = evaluate(EvaluationOptions(runs=tuple(runs.values()), protocols=(protocol,)))
    best = {}
    for run, evaluation in zip(runs, evaluations, strict=True):
        best[run] = next(row for row in evaluation.rows if row.source.endswith("oracle"))
    methods = list(dict.fromkeys(method for method, _, _ in runs))
    most = max(row.images for row in best.values())
    table = [["layer", *methods]]
    for layer in dict.fromkeys(layer for _, layer, _ in runs):
        found = [best.get((method, layer, frame)) for method in methods]
        cells = ["-" if row is None else _layer_cell(row, most) for row in found]
        table.append([layer, *cells])
    table += [[row.method, *[f"{row.gt_known:.1f}"] * len(methods)] for row in baselines]
    (method, layer, _), _ = max(best.items(), key=lambda each: np.nan_to_num(each[1].gt_known, nan=-1.0))
    return "\n".join([
        f"GT-known in percent under {protocol}, @ the threshold that is best on these {most} images:",
        render(table, "text"),
        f"On these images {method} at {layer} is best. Report it on others: layer and threshold are chosen here.",
    ])  # fmt: skip


def _layer_cell(row: Row, most: int) -> str:
    """GT-known, its threshold, and of how many images it is where the protocol counts fewer than `most`."""
    return f"{figure(row.gt_known, 1)} @{row.threshold:.3g}{f' of {row.images}' if row.images < most else ''}"


def main() -> None:
    """Run the command line."""
    localize(parse(Localize, prog="python -m common.pytorch.maps.localize", description=__doc__))


if __name__ == "__main__":
    run_command(main)
