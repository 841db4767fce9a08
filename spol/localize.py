"""Localize the objects on photographs, without annotations: an overlay for each, and all boxes in one table.

    python -m spol.localize bird.jpg other.png --checkpoint runs/spol/seg/final.pth --out found

The box is that of the largest contour of the foreground, in pixels of the photograph. With `--classifier` each
photograph gets its class too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from common.measuring.geometry import FRAMES, Frame
from common.measuring.protocols import SPOL
from common.pictures.images import read_photograph
from common.pytorch.data import channels_first
from common.pytorch.runtime import for_inference, pick_device
from common.runs.localizing import Box
from common.runs.photographs import Found, check_photographs, localize_photographs
from common.system.errors import run_command
from common.system.options import also, parse
from spol import weights
from spol.cls.checkpoint import Classifier, load
from spol.config import recipe, recipe_name
from spol.preprocessing import Preprocessing
from spol.segmentation import foreground, input_kind


@dataclass(frozen=True)
class LocalizeImages:
    """Localize the objects on photographs."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files."""
    checkpoint: Annotated[Path, also("snapshot")]
    """A final.pth of spol.seg.train, or an authors' file."""
    out: Path
    """Folder for <name>.jpg overlays and boxes.jsonl."""
    classifier: str | None = None
    """A final.pth of spol.cls.train, or imagenet:<arch>."""
    recipe: Literal["cub", "imagenet"] | None = None
    """Data set whose released threshold applies: 0.2 (cub) or 0.8 (imagenet); by default that of the checkpoint's own
    training, and cub where it does not say."""
    threshold: float | None = None
    """Probability above which a pixel is foreground."""
    frame: Literal["crop", "squash"] = "squash"
    """squash: the whole image. crop: squashed to 256, the central 224, as the release measures."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Habits of the released code, to be turned off."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace earlier results."""


class Predictor:
    """Foreground, box and class of one photograph at a time.

    Args:
        options: of the command.
    """

    def __init__(self, options: LocalizeImages):
        self.options, self.device = options, pick_device(options.device)
        self.loaded = weights.load(options.checkpoint, "seg")
        self.network = for_inference(self.loaded.network.float(), self.device)
        self.classifier: Classifier | None = load(options.classifier, 0) if options.classifier else None
        if self.classifier:
            for_inference(self.classifier.network, self.device)
        trained_on = self.loaded.record.get("trained_on")
        name = trained_on.get("name") if isinstance(trained_on, dict) else None
        asked = options.recipe or self.loaded.options.get("recipe")
        released = recipe("seg", recipe_name(str(name), asked)).threshold
        self.threshold = released if options.threshold is None else options.threshold

    def _input(self, images: Sequence[np.ndarray], kind: str) -> Tensor:
        views = [self.options.preprocessing.view(image, Frame.of_kind(kind, image.shape[1::-1])) for image in images]
        batch = torch.stack([channels_first(view) for view in views])
        return batch.to(self.device, memory_format=torch.channels_last)

    def foregrounds(self, images: Sequence[np.ndarray], kind: str) -> np.ndarray:
        """Segment images (H, W, 3) uint8 RGB: foreground probability (N, h, w) in [0, 1] in a kind of frame."""
        seen = self._input(images, input_kind(kind, self.loaded.options.get("resize", 256)))
        return foreground(self.network, seen, Frame.of_kind(kind, images[0].shape[1::-1]).size)

    def segment(self, image: np.ndarray) -> tuple[Frame, np.ndarray, np.ndarray | None]:
        """(H, W, 3) uint8 RGB to its frame, the foreground (224, 224) in [0, 1], and the box (4,) in the frame."""
        kind = FRAMES[self.options.frame]
        (probability,) = self.foregrounds([image], kind)
        box = Box(SPOL.extractor, self.threshold).of(probability)
        return Frame.of_kind(kind, image.shape[1::-1]), probability, box

    @torch.no_grad()
    def probabilities(self, image: np.ndarray) -> np.ndarray | None:
        """Classify an image: (K,) float32, or None without a classifier."""
        if self.classifier is None:
            return None
        side = self.classifier.resize or recipe("cls", "cub").resize
        return self.classifier.network(self._input([image], f"resize {side}"))[0].softmax(dim=0).cpu().numpy()

    def classify(self, image: np.ndarray) -> dict[str, Any]:
        """`class` and `score` of the best class, or nothing without a classifier."""
        scores = self.probabilities(image)
        if scores is None or self.classifier is None:
            return {}
        best, names = int(scores.argmax()), self.classifier.class_names
        return {"class": names[best] if names else best, "score": round(float(scores[best]), 6)}


def localize_images(options: LocalizeImages) -> list[dict[str, Any]]:
    """Localize photographs, and return a record for each image, see `common.runs.photographs`.

    Raises:
        UserError: no image could be read, two have one name, or there are results already.
    """
    check_photographs(options.images, options.out, options.overwrite)
    predictor = Predictor(options)

    def find(image: np.ndarray) -> Found:
        frame, probability, box = predictor.segment(image)
        return Found(frame, probability, box, predictor.threshold, predictor.classify(image))

    return localize_photographs(options.images, options.out, options.overwrite, read_photograph, find)


def main() -> None:
    """Run the command line."""
    localize_images(parse(LocalizeImages, prog="python -m spol.localize", description=__doc__))


if __name__ == "__main__":
    run_command(main)
