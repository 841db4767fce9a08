"""Masks from class maps: a random walk that stops at IRN's boundaries, then a threshold.

    python -m bas.segmentation.masks --maps runs/seg/maps --irn runs/seg/irn/final.pth --out runs/seg/masks

For every image `masks/<id>.png` holds 0 for background and class + 1, 8 bits a pixel, which any segmentation trainer
reads. The directory is scored by `python -m common.evaluate`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bas.segmentation import weights
from bas.segmentation.affinity import random_walk
from bas.segmentation.config import MASK_POWER, MASK_THRESHOLD, WALK_BETA, WALK_EXPONENT, WALK_RADIUS
from bas.segmentation.maps import image_loader
from common.datasets import trained
from common.measuring.arrays import Indices
from common.measuring.segmentation import label_map
from common.pictures.images import ImageError
from common.pytorch.runtime import for_inference, pick_device
from common.runs.segmentation import SegmentationPredictions, SegmentationWriter
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.system.progress import bar


@dataclass(frozen=True)
class Walk:
    """Settings by which class maps are spread and read."""

    beta: float = WALK_BETA
    """Power of the affinities."""
    exponent: int = WALK_EXPONENT
    """Logarithm of the number of steps to base 2."""
    radius: int = WALK_RADIUS
    """Radius of a pixel's neighbours, in cells of stride 4."""
    power: float = MASK_POWER
    """Power of the class maps before the walk."""
    threshold: float = MASK_THRESHOLD
    """Threshold of the background, on maps divided by the greatest value of all classes."""


def walked(maps: Tensor, edges: Tensor, size: tuple[int, int], walk: Walk = Walk()) -> Tensor:
    """Class maps after the walk, enlarged to the image and divided by the greatest value of all of them.

    Args:
        maps: (K, ceil(H / 4), ceil(W / 4)).
        edges: of that size, in [0, 1].
        size: H and W.
        walk: how.

    Returns:
        (K, H, W); zeros stay zeros.
    """
    spread = random_walk(maps.pow(walk.power), edges, walk.radius, walk.beta, walk.exponent)
    enlarged = F.interpolate(spread[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    enlarged = enlarged[:, : size[0], : size[1]]
    greatest = enlarged.max()
    return enlarged / greatest if greatest > 0 else torch.zeros_like(enlarged)


def mask(maps: Tensor, edges: Tensor, classes: Indices, size: tuple[int, int], walk: Walk = Walk()) -> np.ndarray:
    """The label map (H, W) of one image; arguments as `walked`. Maps of zeros give background."""
    return label_map(walked(maps, edges, size, walk).cpu().numpy(), classes, walk.threshold)


@dataclass(frozen=True, kw_only=True)
class MakeMasks:
    """Write masks as a predictions directory."""

    maps: Path
    """Folder that bas.segmentation.maps wrote."""
    irn: Path
    """A final.pth of IRN's training, or the authors' res50_irn.pth."""
    out: Path
    """The directory."""
    walk: Walk = field(default_factory=Walk)
    """The random walk and the threshold behind it."""
    split: str | None = None
    """Split to take images from, such as train where the maps are of train_aug, as the released step does."""
    pad: int = 512
    """Side that smaller images are padded to for IRN, which sees the padding."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder, where it has moved."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int = 2
    """Processes that load images."""
    overwrite: bool = False
    """Replace another run's masks."""


def check_walk(walk: Walk) -> None:
    """Refuse (`UserError`) settings that make no walk."""
    for name, value, fits, expected in (
        ("beta", walk.beta, 0 < walk.beta < float("inf"), "above 0"),
        ("exponent", walk.exponent, 0 <= walk.exponent <= 20, "0 to 20"),
        ("radius", walk.radius, 2 <= walk.radius <= 50, "2 to 50"),
        ("power", walk.power, 0 < walk.power < float("inf"), "above 0"),
        ("threshold", walk.threshold, 0 <= walk.threshold < 1, "0 or more, below 1"),
    ):
        if not fits:
            raise UserError(f"--walk.{name} {value}", expected=expected)


@torch.inference_mode()
def make_masks(options: MakeMasks) -> Path:
    """Write the masks, and return the directory.

    Raises:
        UserError: maps or a checkpoint that are none, a directory of another run, or a walk that makes no sense.
    """
    check_walk(options.walk)
    predictions = SegmentationPredictions.open(options.maps)
    if predictions.kind != "maps":
        raise UserError(f"these are {predictions.kind}", where=options.maps, expected="class maps")
    dataset, data = predictions.dataset(options.root), predictions.manifest.data
    if options.split is not None and options.split != dataset.split:
        source, dataset = predictions.other_split(options.split, options.root)
        data = source.described(dataset)
    of_both = [predictions.manifest.trained_images, trained.compared(dataset, [options.irn])]
    data = {**data, "trained_images": trained.joined(of_both)}
    device = pick_device(options.device)
    loaded = weights.load_irn(options.irn)
    header = {
        **{name: predictions.manifest[name] for name in ("method", "architecture", "classes", "checkpoint")},
        "kind": "masks",
        "data": data,
        "options": {"maps": predictions.manifest.options, "irn": loaded.record, "pad": options.pad,
                    **{name: getattr(options.walk, name) for name in Walk.__dataclass_fields__}},
    }  # fmt: skip
    writer = SegmentationWriter(options.out, header, options.overwrite)
    network = for_inference(loaded.network, device)
    entries = {entry.image_id: entry for entry in predictions.entries}
    left = [sample for sample in dataset if sample.image_id not in writer.done]
    loader = image_loader(left, (1.0,), options.workers)
    for sample, pairs, size in bar(loader, total=len(left), desc="masks"):
        if isinstance(pairs, ImageError) or sample.image_id not in entries:
            writer.skip(sample.image_id, "it has no class maps" if sample.image_id not in entries else pairs.found)
            continue
        classes, strided, _ = predictions.maps(entries[sample.image_id])
        edges, _ = network.look(pairs[0].to(device), options.pad)
        writer.write_mask(
            sample, mask(torch.from_numpy(strided).to(device), edges[0], classes, size, options.walk)
        )  # fmt: skip
    return writer.end()


def main() -> None:
    """Run the command line."""
    make_masks(parse(MakeMasks, prog="python -m bas.segmentation.masks", description=__doc__))


if __name__ == "__main__":
    run_command(main)
