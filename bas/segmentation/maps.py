"""Class maps of images whose labels are known: BAS's, at several scales and mirrored, added to CAM's.

    python -m bas.segmentation.maps --bas runs/seg/bas/final.pth --cam runs/seg/cam/final.pth \\
        --data.name voc --data.root VOC2012 --data.split train_aug --out runs/seg/maps

Without --bas they are CAM's alone, to compare with.

For every image `maps/<id>.npz` holds `keys` (K,), its classes; `cam` (K, h / 4, w / 4); `high_res` (K, h, w), float32
in [0, 1]. The directory is scored by `python -m common.evaluate`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bas.segmentation import weights
from bas.segmentation.images import flipped_pair
from bas.segmentation.networks import pair_maps
from common.datasets import DataSource, Sample
from common.pictures.images import ImageError, read_rgb
from common.pytorch.data import end_when_unsent
from common.pytorch.runtime import for_inference, pick_device
from common.runs.segmentation import SegmentationWriter
from common.system.errors import UserError, run_command
from common.system.options import parse
from common.system.progress import bar

SCALES = (1.0, 0.5, 1.5, 2.0)
EPSILON = 1e-5
"""Added to the maximum that a map is divided by."""

PairMaps = Callable[[Tensor], Tensor]
"""A pair (2, 3, h, w), an image and its mirror image, to maps (C, ceil(h / 16), ceil(w / 16))."""


class ClassMaps(NamedTuple):
    """Maps of one image's K classes: at stride 4, (K, ceil(H / 4), ceil(W / 4)), and at its own size, (K, H, W)."""

    strided: Tensor
    high: Tensor


def several_scales(
    network: PairMaps, pairs: Iterable[Tensor], classes: Sequence[int], size: tuple[int, int]
) -> ClassMaps:
    """One network's maps, added up over scales, each divided by its greatest value.

    Args:
        network: see `PairMaps`.
        pairs: the image at each scale.
        classes: K of them.
        size: height and width of the image.
    """
    height, width = size
    strided_size = (-(-height // 4), -(-width // 4))
    padded_size = (-(-height // 16) * 16, -(-width // 16) * 16)
    strided, high = torch.tensor(0.0), torch.tensor(0.0)
    for pair in pairs:
        maps = network(pair)[list(classes)][None].float()
        strided = strided + _enlarged(maps, strided_size)
        high = high + _enlarged(maps, padded_size)
    return ClassMaps(by_maximum(strided), by_maximum(high[:, : size[0], : size[1]]))


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


def by_maximum(maps: Tensor) -> Tensor:
    """Each map of (K, H, W) divided by (its greatest value + 1e-5); no minimum is taken off."""
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + EPSILON)


def merged(first: ClassMaps, second: ClassMaps) -> ClassMaps:
    """Two networks' maps added, and divided by their greatest value again."""
    return ClassMaps(*(by_maximum(one + two) for one, two in zip(first, second, strict=True)))


@torch.inference_mode()
def class_maps(networks: Sequence[PairMaps], pairs: Sequence[Tensor], classes: Sequence[int], size: tuple[int, int]):
    """The maps of one image, of one network or of two merged; arguments as `several_scales`."""
    found = [several_scales(network, pairs, classes, size) for network in networks]
    return found[0] if len(found) == 1 else merged(*found)


@dataclass(frozen=True, kw_only=True)
class MakeMaps:
    """Write the class maps of a split as a predictions directory."""

    data: DataSource
    """Images with labels, such as --data.split train_aug."""
    bas: Path | None = None
    """A final.pth of the BAS network, or the authors' epoch_10.pth.tar; without it, CAM's maps alone are made."""
    cam: Path | None = None
    """A final.pth of the CAM network, or the authors' res50_cam.pth."""
    merge: Literal["cam", "none"] = "cam"
    """cam: add the CAM network's maps to BAS's, as released. none: BAS's alone."""
    scales: tuple[float, ...] = SCALES
    """Factors of the image's size."""
    half: bool = False
    """Store full-size maps in half precision: half the space, and ties fall differently."""
    out: Path
    """The directory."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int = 2
    """Processes that load images."""
    overwrite: bool = False
    """Replace another run's maps."""


class ScaledPairs(Dataset[Any]):
    """A sample, and its image as a pair at each scale, or what is wrong with it; then its size."""

    def __init__(self, samples: Sequence[Sample], scales: Sequence[float]):
        self.samples, self.scales = samples, scales

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, list[Tensor] | ImageError, tuple[int, int]]:
        sample = self.samples[index]
        try:
            image = read_rgb(sample.path)
        except ImageError as problem:
            return sample, problem, (0, 0)
        scales = [scale for scale in self.scales if round(min(image.shape[:2]) * scale) >= 1]
        height, width = image.shape[:2]
        return sample, [flipped_pair(image, scale) for scale in scales], (height, width)


def image_loader(samples: Sequence[Sample], scales: Sequence[float], workers: int) -> DataLoader:
    """`ScaledPairs`, one image at a time, in order."""
    return DataLoader(
        ScaledPairs(samples, scales), batch_size=None, num_workers=workers, worker_init_fn=end_when_unsent,
        generator=torch.Generator(),
    )  # fmt: skip


def _networks(options: MakeMaps) -> list[tuple[weights.Loaded, Path]]:
    """The networks whose maps are made, each with its file.

    Raises:
        UserError: none was named, one is lacking, or a file does not fit.
    """
    if options.bas is None:
        if options.cam is None or options.merge == "none":
            raise UserError("no BAS checkpoint was named", do="name it with --bas, or CAM's alone with --cam")
        return [(weights.load_cam(options.cam), options.cam)]
    networks = [(weights.load_bas(options.bas), options.bas)]
    if options.merge == "cam":
        if options.cam is None:
            raise UserError("no CAM checkpoint was named", do="name it with --cam, or say --merge none")
        networks.append((weights.load_cam(options.cam), options.cam))
    return networks


def make_maps(options: MakeMaps) -> Path:
    """Write the class maps, and return the directory.

    Raises:
        UserError: checkpoints that don't fit, or a directory of another run.
    """
    if not options.scales or min(options.scales) <= 0 or max(options.scales) > 8:
        raise UserError(f"--scales {' '.join(map(str, options.scales))}", expected="factors above 0, up to 8")
    loaded = _networks(options)
    dataset = options.data.load(multi_label=True)
    device = pick_device(options.device)
    for each, path in loaded:
        weights.check_classes(each, dataset.class_names, path)
    (first, _), *others = loaded
    header = {
        "kind": "maps",
        "method": "bas-segmentation" if options.bas else weights.METHODS["cam"],
        "architecture": first.architecture,
        "data": options.data.described(dataset, *[path for _, path in loaded]),
        "classes": list(dataset.class_names),
        "checkpoint": first.record,
        "options": {
            "merge": "cam" if others else "none", "scales": list(options.scales), "half": options.half,
            "cam": others[0][0].record if others else None,
        },
    }  # fmt: skip
    writer = SegmentationWriter(options.out, header, options.overwrite)
    networks = [for_inference(each.network, device) for each, _ in loaded]
    predict = [lambda pair, network=network: pair_maps(network, pair.to(device)) for network in networks]
    left = [sample for sample in dataset if sample.image_id not in writer.done]
    loader = image_loader(left, options.scales, options.workers)
    for sample, pairs, size in bar(loader, total=len(left), desc="class maps"):
        if isinstance(pairs, ImageError):
            writer.skip(sample.image_id, pairs.found)
            continue
        maps = class_maps(predict, pairs, sample.labels, size)
        high = maps.high.cpu().numpy()
        writer.write_maps(
            sample, maps.strided.cpu().numpy(), high.astype(np.float16) if options.half else high
        )  # fmt: skip
    return writer.end()


def main() -> None:
    """Run the command line."""
    make_maps(parse(MakeMaps, prog="python -m bas.segmentation.maps", description=__doc__))


if __name__ == "__main__":
    run_command(main)
