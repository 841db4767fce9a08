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
from common.datasets.classes import Matching
from common.measuring.geometry import LARGEST_INPUT, SIDE, frame_kinds
from common.pictures.inputs import CENTRE_OF_TEN
from common.pytorch.data import LocalizationImages, LocalizationItem, localization_loader
from common.pytorch.runtime import compiled, precision
from common.runs.localizing import Box, Localizing, best_classes, say_side
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError

Look = Callable[[Tensor], tuple[Tensor, Any]]


class Localizer(Protocol):
    """Interface of a method: scores, features and maps of images; see `common.pytorch.cam` for the shortest one.

    It runs without gradients; a method that needs them turns them on where it does (`torch.enable_grad`).
    """

    def look(self, images: Tensor) -> tuple[Tensor, Any]:
        """(N, 3, H, W) uint8 RGB to scores (N, classes) before the softmax, and features, a tensor of N rows."""

    def maps(self, features: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Raw maps (N, h, w) from what `look` gave for these images, and their true classes (N,)."""

    def enlarge(self, raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One raw map (h, w) to a localization map of `size` (width, height) in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """Options of every method's localize command."""

    data: DataSource
    """The images to localize."""
    out: Path
    """Folder for the predictions directories."""
    frames: tuple[Literal["crop", "squash"], ...] = ("crop", "squash")
    """crop: resize 256, centre crop 224. squash: resize 224."""
    input_size: int | None = None
    """Side of what the network sees of a frame; that of its training by default, 224 where that is not known."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the first frame alone."""
    maps: bool = True
    """Store the maps; without them only the one box can be scored."""
    resize: Literal["pillow", "opencv", "tensorflow1"] = "pillow"
    """Library whose bilinear resize is used; see common/pictures/images.py."""
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


@torch.no_grad()
def localize(
    options: LocalizeOptions,
    dataset: Dataset,
    localizer: Localizer,
    device: torch.device,
    header: dict[str, Any],
    box: Box,
    classes: Matching | None = None,
) -> list[Path]:
    """Write, or finish, the predictions directories OUT/crop and OUT/squash.

    Args:
        options: of the command.
        dataset: `options.data`, loaded.
        localizer: its network on `device`, in eval mode.
        device: where images are sent.
        header: what the manifest says of the method: `method`, `architecture`, `checkpoint`, `data` and `options`.
        box: makes the box that is stored beside each map.
        classes: which output of the network is which class of the data set.

    Returns:
        The directories.
    """
    kinds = frame_kinds(options.frames)
    precise = precision(device, options.amp)
    side = input_side(options, header["checkpoint"])
    writers = _writers(options, kinds, header, box, side, classes)
    dataset = dataset if classes is None else classes.for_network(dataset)
    look = compiled(localizer.look) if options.compile else localizer.look
    with Localizing(dataset, writers, options.batch_size, box=box, store_maps=options.maps) as run, precise:
        images = LocalizationImages(run.left, kinds, options.crops, options.resize, side)
        loader = localization_loader(images, options.batch_size, options.workers)
        for items in run.batches(loader):
            samples = [item.sample for item in items]
            probabilities, seen = _look(look, items, options, device)
            scores = seen[0][0].float().cpu().numpy() if options.crops == 1 else None
            best_of_each = best_classes(probabilities.float().cpu().numpy(), samples, scores)
            labels = torch.tensor([sample.label for sample in samples], device=device)
            for number, (name, (frame_scores, features)) in enumerate(zip(options.frames, seen, strict=True)):
                maps = localizer.maps(features, frame_scores, labels).detach().float().cpu().numpy()
                for item, raw, best in zip(items, maps, best_of_each, strict=True):
                    if not run.done(name, item.sample):
                        frame = item.frames[number]
                        run.write(name, item.sample, frame, best, localizer.enlarge(raw, frame.size))
    return run.finish()


def trained_side(config: dict[str, Any]) -> dict[str, int]:
    """Side that a checkpoint's record says it was trained at: nothing where that is `SIDE`."""
    augmentation = config.get("options", {}).get("augmentation")
    crop = augmentation.get("crop") if isinstance(augmentation, dict) else None
    return {"input_size": crop} if isinstance(crop, int) and crop not in (0, SIDE) else {}


def input_side(options: LocalizeOptions, record: dict[str, Any]) -> int:
    """The side at which a network sees images; said where it is not `SIDE`, or not its training's.

    Raises:
        UserError: less than a pixel, or more than 8192.
    """
    trained = record.get("input_size", SIDE)
    side = trained if options.input_size is None else options.input_size
    if not 1 <= side <= LARGEST_INPUT:
        raise UserError(f"--input-size {side}", expected=f"1 to {LARGEST_INPUT}")
    say_side(side, trained)
    return side


def _writers(
    options: LocalizeOptions,
    kinds: Sequence[str],
    header: dict[str, Any],
    box: Box,
    side: int,
    matching: Matching | None,
) -> dict[str, PredictionsWriter]:
    """A directory for each frame."""
    shared = {
        **header,
        "classifier": {"name": header["architecture"], "crops": options.crops},
        "options": {
            **header["options"], "threshold": box.threshold, "resize": options.resize, "maps": options.maps,
            "amp": options.amp, **({} if side == SIDE else {"input_size": side}),
        },
    }  # fmt: skip
    return {
        name: PredictionsWriter(options.out / name, {**shared, "frame": kind}, options.overwrite, classes=matching)
        for name, kind in zip(options.frames, kinds, strict=True)
    }


def _look(
    look: Look, items: Sequence[LocalizationItem], options: LocalizeOptions, device: torch.device
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Class probabilities (B, classes), and each frame's scores and features."""
    if options.crops == 10:
        probabilities, centre = _look_at_ten(look, items, device)
        seen = {"crop": centre}
    else:
        probabilities, seen = None, {}
    for number, name in enumerate(options.frames):
        if name not in seen:
            seen[name] = look(torch.stack([item.views[number] for item in items]).to(device))
    if probabilities is None:
        probabilities = seen[options.frames[0]][0].softmax(dim=1)
    return probabilities, [seen[name] for name in options.frames]


def _look_at_ten(
    look: Look, items: Sequence[LocalizationItem], device: torch.device
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The mean of ten crops' probabilities (B, classes), and the centre crops' scores and features."""
    probabilities, scores_of_centre, features_of_centre = [], [], []
    for item in items:  # ten at a time: larger batches outgrow a CPU's cache and gain a GPU little
        assert item.crops is not None  # the loader was asked for ten
        scores, features = look(item.crops.to(device))
        probabilities.append(scores.softmax(dim=1).mean(dim=0))
        scores_of_centre.append(scores[CENTRE_OF_TEN])
        features_of_centre.append(features[CENTRE_OF_TEN])
    return torch.stack(probabilities), (torch.stack(scores_of_centre), torch.stack(features_of_centre))
