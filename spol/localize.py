"""Localize the objects on photographs, without annotations: an overlay for each, and all boxes in one table.

    python -m spol.localize bird.jpg other.png --checkpoint runs/spol/seg/final.pth --out found

The box is that of the largest contour of the foreground, in pixels of the photograph. With `--classifier` each
photograph gets its class too.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from common.measuring.geometry import FRAMES, Frame
from common.measuring.protocols import SPOL
from common.pytorch.data import channels_first
from common.pytorch.runtime import for_inference, pick_device
from common.runs.photographs import Found, check_photographs, localize_photographs
from common.system.errors import run_command
from spol import weights
from spol.cls.checkpoint import Classifier, load
from spol.config import recipe
from spol.options import also
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
    recipe: Literal["cub", "imagenet"] = "cub"
    """Whose released threshold: 0.2 or 0.8."""
    threshold: float | None = None
    """Foreground is what exceeds it; as released by default."""
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
        self.network = for_inference(self.loaded.network, self.device)
        self.classifier: Classifier | None = load(options.classifier, 0) if options.classifier else None
        if self.classifier:
            for_inference(self.classifier.network, self.device)
        released = recipe("seg", options.recipe).threshold
        self.threshold = released if options.threshold is None else options.threshold

    def _input(self, image: np.ndarray, kind: str) -> torch.Tensor:
        view = self.options.preprocessing.view(image, Frame.of_kind(kind, image.shape[1::-1]))
        return channels_first(view)[None].to(self.device)

    def segment(self, image: np.ndarray) -> tuple[Frame, np.ndarray, np.ndarray | None]:
        """(H, W, 3) uint8 RGB to its frame, the foreground (224, 224) in [0, 1], and the box (4,) in the frame."""
        kind = FRAMES[self.options.frame]
        frame = Frame.of_kind(kind, image.shape[1::-1])
        seen = self._input(image, input_kind(kind, self.loaded.options.get("resize", 256)))
        probability = foreground(self.network, seen, frame.size)[0]
        (boxes,) = SPOL.extractor.boxes(probability, [self.threshold])
        return frame, probability, boxes[0] if len(boxes) else None

    @torch.no_grad()
    def classify(self, image: np.ndarray) -> dict[str, Any]:
        """`class` and `score` of the best class, or nothing without a classifier."""
        if self.classifier is None:
            return {}
        side = self.classifier.resize or recipe("cls", "cub").resize
        scores = self.classifier.network(self._input(image, f"resize {side}"))[0].softmax(dim=0)
        best, names = int(scores.argmax()), self.classifier.class_names
        return {"class": names[best] if names else best, "score": round(float(scores[best]), 6)}


def localize_images(options: LocalizeImages) -> list[dict[str, Any]]:
    """The command; gives a record for each image, see `common.runs.photographs`.

    Raises:
        UserError: no image could be read, two have one name, or there are results already.
    """
    check_photographs(options.images, options.out, options.overwrite)
    predictor = Predictor(options)

    def find(image: np.ndarray) -> Found:
        frame, probability, box = predictor.segment(image)
        return Found(frame, probability, box, predictor.threshold, predictor.classify(image))

    return localize_photographs(options.images, options.out, options.overwrite, options.preprocessing.read, find)


def main() -> None:
    """The command line."""
    localize_images(tyro.cli(LocalizeImages, prog="python -m spol.localize", description=__doc__))


if __name__ == "__main__":
    run_command(main)
