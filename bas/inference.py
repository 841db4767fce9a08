"""Localize a split with a BAS network, ours or an authors' checkpoint as it is.

    python -m bas.inference --checkpoint runs/bas/final.pth --data.name cub --data.root CUB_200_2011 --out runs/bas/test

The result is scored by `python -m common.evaluate`, under the protocol `bas` and any other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from torch import Tensor

from bas import weights
from bas.config import recipe, released_values
from bas.network import Network
from common.datasets import Dataset, classes
from common.measuring.protocols import BAS
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch import localization
from common.pytorch.data import normalized
from common.pytorch.localization import LocalizeOptions
from common.pytorch.runtime import for_inference, pick_device
from common.runs.localizing import Box
from common.system.errors import UserError, run_command
from common.system.options import parse


@dataclass(frozen=True, kw_only=True)
class Localize(LocalizeOptions):
    """Write maps, boxes and classes of a split as predictions directories OUT/crop and OUT/squash."""

    checkpoint: Path
    """A final.pth of bas.train, or an authors' file."""
    arch: Literal["vgg", "mobilenet", "resnet", "inception"] | None = None
    """Architecture of an authors' checkpoint; detected from its parameter names if omitted."""
    variant: Literal["CUB", "ILSVRC", "EXT"] | None = None
    """Release that an authors' checkpoint is of; detected from its container if omitted."""
    top_k: Literal["gt"] | int | None = None
    """gt: the true class's map (what the release calls 1). N: the mean of the N best classes' maps. By default as
    released."""
    threshold: float | None = None
    """Threshold of the box that is stored beside the map; protocols choose their own."""


class BasLocalizer:
    """Foreground maps of a BAS network, as `common.pytorch.localization` asks for them.

    Args:
        network: on its device, in eval mode.
        top_k: None for the true class's map, else how many of the best classes' are averaged.

    Raises:
        UserError: `top_k` is below 1.
    """

    def __init__(self, network: Network, top_k: int | None):
        if top_k is not None and top_k < 1:
            raise UserError(f"--top-k {top_k}", expected="gt, or 1 and more")
        self.network, self.top_k = network, top_k

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to scores and features."""
        return self.network.look(normalized(images, IMAGENET_MEAN, IMAGENET_STD, images.device))

    def maps(self, features: Tensor, scores: Tensor, labels: Tensor | None) -> Tensor:
        """The foreground map (N, h, w) of each image."""
        return self.network.foreground_map(features, scores, labels, self.top_k)[:, 0]

    def enlarge(self, raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Min-max normalized at its own size, then enlarged bilinearly."""
        return cv2.resize(normalize(raw, self.network.variant.epsilon), size, interpolation=cv2.INTER_LINEAR)


def normalize(raw: np.ndarray, epsilon: float) -> np.ndarray:
    """(map - min) / (max - min + epsilon).

    A constant map becomes all zero. The release divides 0 by 0 there; either way no region is found, and the whole
    frame is the box.
    """
    span = raw.max() - raw.min() + np.float32(epsilon)
    return (raw - raw.min()) / span if span > 0 else np.zeros_like(raw)


def localize(options: Localize) -> list[Path]:
    """Localize a split, and return the predictions directories."""
    device = pick_device(options.device)
    dataset = options.data.load()
    loaded = weights.load(options.checkpoint, options.arch, options.variant)
    network = loaded.network
    matching = match(loaded, dataset, options)
    released = recipe(loaded.variant, options.data.name, loaded.arch)
    top_k = released.top_k if options.top_k is None else None if options.top_k == "gt" else options.top_k
    if top_k is None and classes.which_map("label" if options.top_k else None, matching) == "predicted":
        top_k = 1
    threshold = released.threshold if options.threshold is None else options.threshold
    for_inference(network, device)
    header = {
        "method": weights.METHOD,
        "architecture": loaded.arch,
        "checkpoint": loaded.record,
        "data": options.data.described(dataset, options.checkpoint),
        "options": {"variant": loaded.variant, "top_k": "gt" if top_k is None else top_k},
    }
    localizer = BasLocalizer(network, top_k)
    box = Box(BAS.extractor, threshold)
    return localization.localize(options, dataset, localizer, device, header, box, matching)


def match(loaded: weights.Loaded, dataset: Dataset, options: Localize) -> classes.Matching:
    """Match the outputs of the network with the classes of the data set; errors as `classes.match`."""
    outputs, index = loaded.network.num_classes, options.data.class_index
    return classes.match(dataset, loaded.class_names, outputs, options.checkpoint, exact=True, index=index)


def main() -> None:
    """Run the command line."""
    localize(parse(Localize, prog="python -m bas.inference", description=__doc__, released=released_values()))


if __name__ == "__main__":
    run_command(main)
