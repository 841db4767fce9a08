"""The localize command that the PyTorch methods share: images in, predictions directories out, one for each frame.

A method brings a `Localizer`: scores and features of images, and a map of features. Ten crops contain the centre crop,
so the `crop` frame's map costs no further pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from common.datasets import Dataset, DataSource
from common.measuring.extraction import Extractor
from common.measuring.geometry import frame_kinds
from common.pytorch.data import LocalizationItem, localization_loader
from common.pytorch.runtime import compiled, precision
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter, finish, pending, skip
from common.system.progress import bar

CENTRE = 4
"""The centre crop's place among `images.ten_crops`."""


Look = Callable[[Tensor], tuple[Tensor, Any]]


class Localizer(Protocol):
    """What a method does with images; see `common.pytorch.cam` for the shortest one."""

    def look(self, images: Tensor) -> tuple[Tensor, Any]:
        """(N, 3, H, W) uint8 RGB to scores (N, classes) before the softmax, and features, a tensor of N rows."""

    def maps(self, features: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Raw maps (N, h, w) from what `look` gave for these images, and their true classes (N,)."""

    def enlarge(self, raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One raw map (h, w) to a localization map of `size` (width, height) in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """What every method's localize command takes."""

    data: DataSource
    """The images to localize."""
    out: Path
    """Folder for the predictions directories."""
    frames: tuple[Literal["crop", "squash"], ...] = ("crop", "squash")
    """crop: resize 256, centre crop 224. squash: resize 224."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the first frame alone."""
    maps: bool = True
    """Store the maps; without them only the one box can be scored."""
    resize: Literal["pillow", "opencv", "tensorflow1"] = "pillow"
    """Whose bilinear resize; see common/pictures/images.py."""
    batch_size: int = 8
    """Images at a time, ten crops each."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    amp: Literal["off", "fp16", "bf16"] = "off"
    """Mixed precision, which moves the numbers a little; fp16 needs CUDA."""
    compile: bool = False
    """Run the network through torch.compile, whose start of up to a minute pays from some 2,000 images on;
    it needs a C++ compiler."""
    workers: int = 2
    """Processes that load images."""
    overwrite: bool = False
    """Start anew where the folder holds other predictions."""


@torch.inference_mode()
def localize(
    options: LocalizeOptions,
    dataset: Dataset,
    localizer: Localizer,
    device: torch.device,
    header: dict[str, Any],
    extractor: Extractor,
    threshold: float,
) -> list[Path]:
    """Write, or finish, the predictions directories OUT/crop and OUT/squash.

    Args:
        options: of the command.
        dataset: `options.data`, loaded.
        localizer: its network on `device`, in eval mode.
        device: where images are sent.
        header: what the manifest says of the method: `method`, `architecture`, `checkpoint` and `options`.
        extractor, threshold: make the box that is stored beside each map.

    Returns:
        The directories.
    """
    kinds = frame_kinds(options.frames)
    precise = precision(device, options.amp)
    writers = []
    for name, kind in zip(options.frames, kinds, strict=True):
        shared = {
            "data": options.data.described(dataset),
            "classifier": {"name": header["architecture"], "crops": options.crops},
            "frame": kind,
            "options": {
                **header["options"], "threshold": threshold, "resize": options.resize, "maps": options.maps,
                "amp": options.amp,
            },
        }  # fmt: skip
        writers.append(PredictionsWriter(options.out / name, {**header, **shared}, options.overwrite))
    left = pending(dataset, writers, options.batch_size)
    loader = localization_loader(left, kinds, options.crops, options.batch_size, options.workers, options.resize)
    look = compiled(localizer.look) if options.compile else localizer.look
    progress = bar(total=len(dataset), initial=len(dataset) - len(left), desc="localizing")
    with progress, precise:
        for items in loader:
            for item in items:
                if item.problem:
                    skip(writers, item.sample.image_id, item.problem)
            usable = [item for item in items if not item.problem]
            if usable:
                _localize_batch(usable, writers, options, localizer, look, device, extractor, threshold)
            progress.update(len(items))
    return finish(writers)


def _localize_batch(
    items: Sequence[LocalizationItem],
    writers: Sequence[PredictionsWriter],
    options: LocalizeOptions,
    localizer: Localizer,
    look: Look,
    device: torch.device,
    extractor: Extractor,
    threshold: float,
) -> None:
    probabilities, seen = _look(look, items, options, device)
    best, classes = probabilities.topk(min(5, probabilities.shape[1]), dim=1)
    labels = torch.tensor([item.sample.label for item in items], device=device)
    for number, (writer, (scores, features)) in enumerate(zip(writers, seen, strict=True)):
        maps = localizer.maps(features, scores, labels).float().cpu().numpy()
        for item, raw, top5, top5_scores in zip(items, maps, classes.tolist(), best.tolist(), strict=True):
            if item.sample.image_id in writer.done:
                continue
            frame = item.frames[number]
            localization_map = localizer.enlarge(raw, frame.size)
            (boxes,) = extractor.boxes(localization_map, [threshold])
            prediction = Prediction(
                image_id=item.sample.image_id,
                label=item.sample.label,
                size=frame.original,
                frame=frame,
                top5=tuple(top5),
                top5_scores=tuple(top5_scores),
                box=boxes[0] if len(boxes) else None,
                threshold=threshold,
            )
            writer.write(prediction, localization_map if options.maps else None)


def _look(
    look: Look, items: Sequence[LocalizationItem], options: LocalizeOptions, device: torch.device
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Class probabilities (B, classes), and each frame's scores and features."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    probabilities = None
    if options.crops == 10:
        each, centre = [], []
        for item in items:  # ten at a time: larger batches outgrow a CPU's cache and gain a GPU little
            scores, features = look(item.crops.to(device))
            each.append(scores.softmax(dim=1).mean(dim=0))
            centre.append((scores[CENTRE], features[CENTRE]))
        probabilities = torch.stack(each)
        seen["crop"] = tuple(torch.stack(parts) for parts in zip(*centre, strict=True))
    for number, name in enumerate(options.frames):
        if name not in seen:
            seen[name] = look(torch.stack([item.views[number] for item in items]).to(device))
        if probabilities is None:
            probabilities = seen[name][0].softmax(dim=1)
    return probabilities, [seen[name] for name in options.frames]
