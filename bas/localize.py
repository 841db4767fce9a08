"""Localize the objects on photographs, without annotations: an overlay for each, and all boxes in one table.

    python -m bas.localize bird.jpg other.png --checkpoint runs/bas/final.pth --out found

The map is the mean over the best-scoring classes that was released for the backbone, or the best class's where the
release took the true class's; boxes are in pixels of the photograph.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from bas import weights
from bas.config import recipe, released_values
from bas.inference import BasLocalizer
from common.measuring.geometry import FRAMES, SIDE, Frame, seen_kind
from common.measuring.protocols import BAS
from common.pictures.images import read_photograph
from common.pytorch.data import channels_first, frame_pixels
from common.pytorch.runtime import for_inference, pick_device
from common.runs.localizing import Box
from common.runs.photographs import Found, check_photographs, localize_photographs
from common.system.errors import run_command
from common.system.options import parse


@dataclass(frozen=True)
class LocalizeImages:
    """Localize the objects on photographs."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files."""
    checkpoint: Path
    """A final.pth of bas.train, or an authors' file."""
    out: Path
    """Folder for <name>.jpg overlays and boxes.jsonl."""
    arch: Literal["vgg", "mobilenet", "resnet", "inception"] | None = None
    """Architecture of an authors' checkpoint; detected from its parameter names if omitted."""
    variant: Literal["CUB", "ILSVRC", "EXT"] | None = None
    """Release that an authors' checkpoint is of; detected from its container if omitted."""
    top_k: int | None = None
    """Number of best classes whose maps are averaged."""
    threshold: float | None = None
    """Threshold of the normalized map."""
    frame: Literal["crop", "squash"] = "squash"
    """squash: the whole image at 224 x 224. crop: resized to 256, the central 224, as the release measures."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace earlier results."""


def localize_images(options: LocalizeImages) -> list[dict[str, Any]]:
    """Localize photographs, and return a record for each image, see `common.runs.photographs`.

    Raises:
        UserError: no image could be read, two have one name, or there are results already.
    """
    check_photographs(options.images, options.out, options.overwrite)
    loaded = weights.load(options.checkpoint, options.arch, options.variant)
    dataset = "ilsvrc" if loaded.network.num_classes == 1000 else "cub"
    released = recipe(loaded.variant, dataset, loaded.arch)
    threshold = released.threshold if options.threshold is None else options.threshold
    box, device = Box(BAS.extractor, threshold), pick_device(options.device)
    side = loaded.record.get("input_size", SIDE)
    top_k = (released.top_k or 1) if options.top_k is None else options.top_k
    localizer = BasLocalizer(for_inference(loaded.network, device), top_k)

    @torch.no_grad()
    def find(image: np.ndarray) -> Found:
        frame = Frame.of_kind(FRAMES[options.frame], image.shape[1::-1])
        seen = Frame.of_kind(seen_kind(FRAMES[options.frame], side), image.shape[1::-1])
        scores, features = localizer.look(channels_first(frame_pixels(image, seen))[None].to(device))
        raw = localizer.maps(features, scores, None)[0].cpu().numpy()
        localization_map = localizer.enlarge(raw, frame.size)
        best, names = int(scores[0].argmax()), loaded.class_names
        classified = {
            "class": names[best] if names else best, "score": round(float(scores[0].softmax(dim=0)[best]), 6)
        }  # fmt: skip
        return Found(frame, localization_map, box.of(localization_map), threshold, classified)

    return localize_photographs(options.images, options.out, options.overwrite, read_photograph, find)


def main() -> None:
    """Run the command line."""
    localize_images(
        parse(LocalizeImages, prog="python -m bas.localize", description=__doc__, released=released_values())
    )


if __name__ == "__main__":
    run_command(main)
