"""Localize the objects on photographs, without annotations: an overlay for each, and all boxes in one table.

    python -m spol.localize bird.jpg other.png --checkpoint runs/spol/seg/final.pth --out found

The box is that of the largest contour of the foreground, in pixels of the photograph. With `--classifier` each
photograph gets its class too.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from common.errors import UserError, run_command
from common.files import write_atomically, write_text
from common.geometry import Frame
from common.images import ImageError
from common.overlays import draw, encode_jpeg
from common.protocols import FRAMES, SPOL
from common.pytorch.data import channels_first
from common.pytorch.runtime import pick_device
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
        self.network = self.loaded.network.to(self.device).eval()
        self.classifier: Classifier | None = load(options.classifier, 0) if options.classifier else None
        if self.classifier:
            self.classifier.network.to(self.device).eval()
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

    @torch.inference_mode()
    def classify(self, image: np.ndarray) -> dict[str, Any]:
        """`class` and `score` of the best class, or nothing without a classifier."""
        if self.classifier is None:
            return {}
        side = self.classifier.resize or recipe("cls", "cub").resize
        scores = self.classifier.network(self._input(image, f"resize {side}"))[0].softmax(dim=0)
        best, names = int(scores.argmax()), self.classifier.class_names
        return {"class": names[best] if names else best, "score": round(float(scores[best]), 6)}


def localize_images(options: LocalizeImages) -> list[dict[str, Any]]:
    """The command; gives a record for each image: `image`, `size`, `box` in its pixels or None, `threshold`, `class`.

    Raises:
        UserError: no image could be read, two have one name, or there are results already.
    """
    names = [path.name for path in options.images]
    if len(set(names)) < len(names):
        raise UserError("two images have one name", do="localize them into different folders")
    if (options.out / "boxes.jsonl").exists() and not options.overwrite:
        raise UserError("there are boxes already", where=options.out, do="choose another --out, or say --overwrite")
    predictor = Predictor(options)
    records = []
    for path in options.images:
        try:
            image = options.preprocessing.read(path)
        except ImageError as problem:
            print(f"left out: {problem}")
            continue
        records.append(_localize_one(path, image, predictor, options.out))
    if not records:
        raise UserError("none of the images could be read", do="look at the lines above")
    write_text(options.out / "boxes.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))
    print(f"{len(records)} images localized, {len(names) - len(records)} left out: {options.out}")
    return records


def _localize_one(path: Path, image: np.ndarray, predictor: Predictor, out: Path) -> dict[str, Any]:
    frame, probability, box = predictor.segment(image)
    size = image.shape[1::-1]
    _, overlay = draw(image, frame, probability, box, np.empty((0, 4)), longest=max(size))
    write_atomically(out / f"{path.name}.jpg", lambda file: file.write(encode_jpeg(overlay)))
    in_image = None if box is None else [round(float(value), 2) for value in frame.to_original(box)[0]]
    return {
        "image": str(path),
        "size": list(size),
        **predictor.classify(image),
        "box": in_image,
        "threshold": predictor.threshold,
    }


def main() -> None:
    """The command line."""
    options = tyro.cli(LocalizeImages, prog="python -m spol.localize", description=__doc__)
    if not options.images:
        raise UserError("no image was named", do="name one or more")
    localize_images(options)


if __name__ == "__main__":
    run_command(main)
