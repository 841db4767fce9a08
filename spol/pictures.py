"""Draw what each stage makes of images: the photograph with boxes, map, pseudo mask, segmentation, side by side.

    python -m spol.pictures --cam runs/spol/cam/final.pth --seg runs/spol/seg/final.pth --data.name cub \\
        --datapath CUB_200_2011 --out runs/spol/pictures

In the pseudo mask white is foreground, black background, grey ignored. True boxes are green, predicted ones orange.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch

from common.datasets import Sample
from common.measuring.geometry import Frame
from common.pictures.overlays import draw, encode_jpeg
from common.pytorch.data import channels_first
from common.system.errors import UserError, run_command
from common.system.files import write_atomically
from common.system.options import also, parse
from common.system.progress import bar
from spol import weights
from spol.localize import LocalizeImages, Predictor
from spol.losses import IGNORED
from spol.options import Source
from spol.preprocessing import Preprocessing, target
from spol.pseudo_masks import enlarged_map, pseudo_mask


@dataclass(frozen=True)
class Pictures:
    """Draw what each stage makes of images."""

    data: Source
    """The images."""
    cam: Path
    """A checkpoint of the stage cam."""
    seg: Path
    """A checkpoint of the stage seg."""
    out: Path
    """Folder for the pictures."""
    count: Annotated[int, also("images")] = 12
    """Number of images, spread over the split."""
    recipe: Literal["cub", "imagenet"] = "cub"
    """Data set whose released threshold applies: 0.2 (cub) or 0.8 (imagenet)."""
    threshold: float | None = None
    """Probability above which a pixel is foreground."""
    height: int = 200
    """Height of each picture in pixels."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Habits of the released code, to be turned off."""


def pictures(options: Pictures) -> list[Path]:
    """Draw the pictures, and return their files.

    Raises:
        UserError: a checkpoint that does not fit.
    """
    samples = options.data.plain().load().samples
    chosen = [
        samples[index] for index in np.linspace(0, len(samples) - 1, min(options.count, len(samples))).astype(int)
    ]
    cam = weights.load(options.cam, "cam")
    weights.check_outputs(cam, 1 + max(sample.label for sample in samples), None, options.cam)
    cam.network.eval()
    predictor = Predictor(
        LocalizeImages(
            (), options.seg, options.out, recipe=options.recipe, threshold=options.threshold, frame="crop",
            preprocessing=options.preprocessing, device="cpu",
        )
    )  # fmt: skip
    written = []
    for sample in bar(chosen, total=len(chosen), desc="drawing"):
        path = options.out / f"{sample.image_id.replace('/', '__')}.jpg"
        _save(path, encode_jpeg(strip(sample, cam, predictor, options.height)))
        written.append(path)
    if not written:
        raise UserError("no picture was asked for", expected="--count 1 or more")
    return written


def _save(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


@torch.inference_mode()
def strip(sample: Sample, cam: weights.Loaded, predictor: Predictor, height: int) -> np.ndarray:
    """One image's four pictures side by side, (height, W, 3) uint8 RGB."""
    preprocessing = predictor.options.preprocessing
    image = preprocessing.read(sample.path)
    size, side = (image.shape[1], image.shape[0]), cam.options.get("resize", 256)
    seen = channels_first(preprocessing.view(image, Frame.squash(size, side)))[None]
    raw = cam.network.label_maps(seen, torch.tensor([sample.label]))[0].float().numpy()
    codes = target(*np.moveaxis(pseudo_mask(raw, size), -1, 0))
    grey = np.where(codes == IGNORED, np.uint8(128), codes * np.uint8(255))
    frame, probability, box = predictor.segment(image)
    longest, whole = round(height * max(size) / size[1]), Frame.squash(size, 256)
    photograph, segmented = draw(image, frame, probability, box, sample.boxes, longest)
    _, under_map = draw(image, whole, np.clip(enlarged_map(raw), 0, 1), None, sample.boxes, longest)
    mask = cv2.resize(np.dstack([grey] * 3), photograph.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.concatenate([photograph, under_map, mask, segmented], axis=1)


def main() -> None:
    """Run the command line."""
    options = parse(Pictures, prog="python -m spol.pictures", description=__doc__)
    print(f"{len(pictures(options))} pictures: {options.out}")


if __name__ == "__main__":
    run_command(main)
