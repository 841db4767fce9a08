"""Localize the objects on photographs, without annotations: an overlay for each, and all boxes in one table.

    python -m bas.localize bird.jpg other.png --checkpoint runs/bas/final.pth --out found

The map is the mean over the best-scoring classes that was released for the backbone, or the best class's where the
release took the true class's; boxes are in pixels of the photograph.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from bas import weights
from bas.config import recipe
from bas.inference import BasLocalizer
from common.errors import UserError, run_command
from common.files import write_atomically, write_text
from common.geometry import Frame
from common.images import ImageError, read_rgb
from common.overlays import draw, encode_jpeg
from common.protocols import BAS, FRAMES
from common.pytorch.data import channels_first, frame_pixels
from common.pytorch.runtime import pick_device


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
    """Of an authors' file; recognized by its names where not given."""
    variant: Literal["CUB", "ILSVRC", "EXT"] | None = None
    """Of an authors' file; recognized by its container where not given."""
    top_k: int | None = None
    """How many of the best classes' maps are averaged; as released by default."""
    threshold: float | None = None
    """On the normalized map; as released by default."""
    frame: Literal["crop", "squash"] = "squash"
    """squash: the whole image at 224 x 224. crop: resized to 256, the central 224, as the release measures."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace earlier results."""


def localize_images(options: LocalizeImages) -> list[dict]:
    """The command; gives a record for each image: `image`, `size`, `class`, `score`, `box` in its pixels, `threshold`.

    Raises:
        UserError: no image could be read, two have one name, or there are results already.
    """
    names = [path.name for path in options.images]
    if len(set(names)) < len(names):
        raise UserError("two images have one name", do="localize them into different folders")
    if (options.out / "boxes.jsonl").exists() and not options.overwrite:
        raise UserError("there are boxes already", where=options.out, do="choose another --out, or say --overwrite")
    loaded = weights.load(options.checkpoint, options.arch, options.variant)
    dataset = "ilsvrc" if loaded.network.num_classes == 1000 else "cub"
    released = recipe(loaded.variant, dataset, loaded.arch)
    threshold = released.threshold if options.threshold is None else options.threshold
    device = pick_device(options.device)
    network = loaded.network.to(device).eval()
    localizer = BasLocalizer(network, options.top_k or released.top_k or 1)
    records, problems = [], []
    for path in options.images:
        try:
            records.append(_localize_one(path, options, localizer, threshold, device, loaded.class_names))
        except ImageError as problem:
            problems.append(problem)
            print(f"left out: {problem}")
    if not records:
        raise UserError("none of the images could be read", do="look at the lines above")
    write_text(options.out / "boxes.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))
    print(f"{len(records)} images localized, {len(problems)} left out: {options.out}")
    return records


@torch.inference_mode()
def _localize_one(
    path: Path,
    options: LocalizeImages,
    localizer: BasLocalizer,
    threshold: float,
    device: torch.device,
    class_names: Sequence[str] | None,
) -> dict:
    image = read_rgb(path)
    size = (image.shape[1], image.shape[0])
    frame = Frame.of_kind(FRAMES[options.frame], size)
    pixels = channels_first(frame_pixels(image, frame))[None]
    scores, features = localizer.look(pixels.to(device))
    raw = localizer.maps(features, scores, None)[0].cpu().numpy()
    localization_map = localizer.enlarge(raw, frame.size)
    (found,) = BAS.extractor.boxes(localization_map, [threshold])
    box = found[0] if len(found) else np.array([0.0, 0.0, *frame.size])
    _, overlay = draw(image, frame, localization_map, box, np.empty((0, 4)), longest=max(size))
    write_atomically(options.out / f"{path.name}.jpg", lambda file: file.write(encode_jpeg(overlay)))
    best = int(scores[0].argmax())
    return {
        "image": str(path),
        "size": list(size),
        "class": class_names[best] if class_names else best,
        "score": round(float(scores[0].softmax(dim=0)[best]), 6),
        "box": [round(float(value), 2) for value in frame.to_original(box)[0]],
        "threshold": threshold,
    }


def main() -> None:
    """The command line."""
    options = tyro.cli(LocalizeImages, prog="python -m bas.localize", description=__doc__)
    if not options.images:
        raise UserError("no image was named", do="name one or more")
    localize_images(options)


if __name__ == "__main__":
    run_command(main)
