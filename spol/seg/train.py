"""Train MFF-Net on pseudo masks to tell foreground from background, whatever the class.

    python -m spol.seg.train --data.name cub --datapath CUB_200_2011 --masks runs/spol/masks --out runs/spol/seg

The network starts from ImageNet, not from the cam stage. Options that are not given take the released values.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor

from common.datasets import Dataset, Sample
from common.pictures.images import ImageError, read_size
from common.pytorch import distributed
from common.pytorch.runtime import pick_device, seed_everything
from common.system.errors import UserError, run_command, say
from common.system.files import read_json
from common.system.options import also, parse
from spol import weights
from spol.config import released_values
from spol.data import MASK_ENDINGS, MASK_MANIFEST, mask_path
from spol.losses import segmentation_loss
from spol.models import MffNet, build
from spol.options import TrainOptions
from spol.training import optimizer_of, run, start

LOOKED_AT = 50
"""Images, about, whose size is compared with their mask's before training."""


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train MFF-Net on pseudo masks."""

    backbone: Annotated[Literal["resnet50", "resnet101", "resnet152", "mobilenet_v1"], also("arch")] = "resnet50"
    """resnet50 as released; mobilenet_v1 is an extension that a CPU can train."""
    masks: Path | None = None
    """Folder of pseudo masks; by default DATAPATH/seg as in the original."""
    ignored_in_divisor: bool = True
    """The loss is divided by all pixels, the ignored ones too, as released."""


class Losses:
    """A batch to its losses, for `fit`."""

    def __init__(self, ignored_in_divisor: bool):
        self.ignored_in_divisor = ignored_in_divisor

    def __call__(self, network: MffNet, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, 3, H, W) and targets (B, H, W) uint8 to scalars."""
        return segmentation_loss(network(images), targets, self.ignored_in_divisor)


def train(options: Train) -> Path:
    """Train, and return the path of `final.pth`."""
    settings = options.settings("seg")
    with distributed.processes(pick_device(options.runtime.device)) as device:
        seed_everything(options.seed)
        folder = options.masks or options.data.root / "seg"
        dataset, record = with_masks(options.data.plain().load(), folder)
        network = build("seg", backbone=options.backbone)
        start(network, options, options.backbone, "seg")
        optimizer = optimizer_of(network, options, ["bkbone."])
        config = {"method": weights.METHODS["seg"], "architecture": options.backbone, "pseudo_masks": record}
        losses = Losses(options.ignored_in_divisor)
        return run(network, optimizer, losses, options, settings, dataset, config, device, masks=folder)


def with_masks(dataset: Dataset, folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """The images that pseudo masks were made of, and what made the masks; says where they are of other annotations.

    Args:
        dataset: the training images.
        folder: of `spol.cam.test`, or of the original's, which has no manifest.

    Raises:
        UserError: no such folder, masks that are not all made yet, or masks of other images of the same names.
    """
    if not folder.is_dir():
        raise UserError("no such folder of pseudo masks", where=folder, do="make them with spol.cam.test")
    if not (folder / MASK_MANIFEST).is_file():
        return dataset, {"made_by": "no manifest"}
    made = read_json(folder / MASK_MANIFEST)
    if not isinstance(made, dict) or not isinstance(made.get("skipped", {}), dict):
        raise UserError(
            "not the manifest of pseudo masks", where=folder / MASK_MANIFEST, do="make them with spol.cam.test"
        )
    if not made.get("complete"):
        raise UserError("not all pseudo masks are made yet", where=folder, do="run spol.cam.test to its end")
    of = made.get("data")
    if isinstance(of, dict) and of.get("fingerprint", dataset.fingerprint()) != dataset.fingerprint():
        say([f"note: {folder}: the pseudo masks were made of other images, or of images with other annotations"])
    _refuse_masks_of_others(dataset, folder)
    skipped = set(made.get("skipped", {}))
    for image_id in sorted(skipped):
        print(f"left out: {image_id} has no pseudo mask: {made['skipped'][image_id]}")
    kept = tuple(sample for sample in dataset if sample.image_id not in skipped)
    return replace(dataset, samples=kept), {"checkpoint": made.get("checkpoint"), "options": made.get("options")}


def _refuse_masks_of_others(dataset: Dataset, folder: Path) -> None:
    """Refuse (`UserError`) masks of other sizes than their images, as of another set with the same names, by a look at
    some; a side may be the other one where an EXIF tag turns the image.
    """
    for sample in dataset.samples[:: max(1, len(dataset) // LOOKED_AT)]:
        sizes = _sizes(sample, folder)
        if sizes is not None and sorted(sizes[0]) != sorted(sizes[1]):
            (width, height), (across, down) = sizes
            raise UserError(
                f"the pseudo mask of {sample.image_id} is {across} x {down}, the image {width} x {height}",
                where=folder, expected="masks of these images", do="make them with spol.cam.test",
            )  # fmt: skip


def _sizes(sample: Sample, folder: Path) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Sizes of an image and its mask; None where one of them can't be read."""
    for ending in MASK_ENDINGS:
        try:
            return read_size(sample.path), read_size(mask_path(folder, sample.image_id, ending))
        except ImageError:
            continue
    return None


def main() -> None:
    """Run the command line."""
    train(parse(Train, prog="python -m spol.seg.train", description=__doc__, released=released_values("seg")))


if __name__ == "__main__":
    run_command(main)
