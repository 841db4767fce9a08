"""The exploratory experiment behind BAS: activation and entropy against the area of a foreground mask.

    python -m bas.exploratory --checkpoint runs/bas/final.pth --data.name cub --data.root CUB_200_2011 --out explored

The true mask of an object is eroded and dilated step by step. With each mask on the features, f2 gives the true class's
score, called activation, and the cross-entropy. The paper reads off it that entropy is near its least long before the
mask covers the object, while activation goes on rising until it does: hence a loss on activation. Writes the curves as
CSV and as two figures: of one image by area, or of several with the empty, true and full mask at 0, 0.5 and 1.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bas import weights
from bas.network import Network
from common.datasets import DataSource, Sample, classes
from common.datasets.masks import object_and_ignore
from common.measuring.geometry import CENTRE_CROP, SIDE, Frame, seen_kind
from common.pictures.images import ImageError, read_rgb
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch.data import channels_first, frame_pixels, normalized
from common.pytorch.runtime import for_inference, pick_device
from common.system.errors import UserError, run_command
from common.system.files import write_atomically, write_text
from common.system.options import parse
from common.system.progress import bar

KERNEL = 5
"""Side of the first erosion's kernel; the n-th has n times that."""
HEADER = ("image_id", "step", "area", "position", "activation", "entropy", "background_activation")


@dataclass(frozen=True)
class Explore:
    """Activation and entropy against the area of a mask that grows from nothing over the object to everything."""

    checkpoint: Path
    """A final.pth of bas.train, or an authors' file."""
    data: DataSource
    """Images with segmentation masks, or with boxes, which stand in for them."""
    out: Path
    """Folder for curves.csv, foreground.png and background.png."""
    images: int = 1
    """Number of images, spread over the split; with several the figures show points and their mean."""
    steps: int = 10
    """Erosions, and as many dilations."""
    pool: Literal["average", "nearest"] = "average"
    """Pooling that brings a mask to the size of the features."""
    arch: Literal["vgg", "mobilenet", "resnet", "inception"] | None = None
    """Architecture of an authors' checkpoint; detected from its parameter names if omitted."""
    variant: Literal["CUB", "ILSVRC", "EXT"] | None = None
    """Release that an authors' checkpoint is of; detected from its container if omitted."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace earlier results."""


@dataclass(frozen=True)
class Point:
    """One mask on one image.

    Attributes:
        image_id: which.
        step: negative for erosions, 0 the true mask, positive for dilations; `empty` and `full`.
        area: share of the frame that the mask covers.
        position: `area` rescaled so that the empty, true and full masks lie at 0, 0.5 and 1.
        activation: the true class's score with the mask on the features.
        entropy: the scores' cross-entropy with the true class.
        background_activation: the true class's score with the inverted mask.
    """

    image_id: str
    step: int | str
    area: float
    position: float
    activation: float
    entropy: float
    background_activation: float


def series(mask: np.ndarray, steps: int) -> tuple[list[int | str], np.ndarray]:
    """The mask eroded and dilated: names of the steps, and masks (2 * steps + 3, H, W) of 0 and 1.

    Args:
        mask: (H, W) bool.
        steps: how many each way; the n-th kernel is a square of 5 n ones, with OpenCV's anchor and border.
    """
    mask = mask.astype(np.uint8)
    names: list[int | str] = ["empty", *range(-steps, steps + 1), "full"]
    masks = []
    for name in names:
        if isinstance(name, str):
            masks.append(np.full_like(mask, name == "full"))
        elif name == 0:
            masks.append(mask)
        else:
            change = cv2.erode if name < 0 else cv2.dilate
            masks.append(change(mask, np.ones((KERNEL * abs(name),) * 2, np.uint8)))
    return names, np.stack(masks).astype(np.float32)


@torch.no_grad()
def measure(
    network: Network, image: Tensor, masks: Tensor, label: int, pool: str = "average"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activation, entropy and background activation (N,) of one image under N masks.

    Args:
        network: in eval mode.
        image: (1, 3, H, W), normalized.
        masks: (N, H, W) of 0 and 1.
        label: the true class.
        pool: `average` or `nearest`.
    """
    features = network.extract(image)
    height, width = features.shape[2:]
    size = (height, width)
    small = masks[:, None]
    small = F.adaptive_avg_pool2d(small, size) if pool == "average" else F.interpolate(small, size, mode="nearest")
    values = []
    for mask in small.split(8):
        scores, background = (network.classify(features * part).mean(dim=(2, 3)) for part in (mask, 1 - mask))
        labels = torch.full((len(mask),), label, device=scores.device)
        entropy = F.cross_entropy(scores, labels, reduction="none")
        values.append(torch.stack([scores[:, label], entropy, background[:, label]]))
    return tuple(torch.cat(values, dim=1).cpu().double().numpy())


def explore_image(
    network: Network, sample: Sample, mask_over: int, steps: int, pool: str, device: torch.device, side: int = SIDE
) -> list[Point]:
    """All points of one image, by ascending area; `side` is what the network sees of the frame of 224.

    Raises:
        ImageError: the image or its mask can't be read.
    """
    image = read_rgb(sample.path)
    frame = Frame.centre_crop((image.shape[1], image.shape[0]))
    mask = true_mask(sample, frame, mask_over)
    names, masks = series(mask, steps)
    seen = Frame.of_kind(seen_kind(CENTRE_CROP, side), frame.original)
    pixels = channels_first(frame_pixels(image, seen))[None]
    images = normalized(pixels, IMAGENET_MEAN, IMAGENET_STD, device)
    found = measure(network, images, torch.from_numpy(masks).to(device), sample.label, pool)
    areas = masks.mean(axis=(1, 2))
    true_area = float(mask.mean())
    positions = np.interp(areas, [0.0, true_area, 1.0], [0.0, 0.5, 1.0])
    points = [
        Point(sample.image_id, name, *map(float, values))
        for name, *values in zip(names, areas, positions, *found, strict=True)
    ]
    return sorted(points, key=lambda point: point.area)


def true_mask(sample: Sample, frame: Frame, mask_over: int) -> np.ndarray:
    """The object's pixels (H, W) bool in the frame: of its segmentation masks, else of its boxes."""
    if sample.masks:
        return object_and_ignore(sample, frame, mask_over)[0]
    mask = np.zeros(frame.size[::-1], dtype=bool)
    for x0, y0, x1, y1 in frame.clip(frame.to_frame(sample.boxes)).round().astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


def explore(options: Explore) -> list[Point]:
    """Explore activation and entropy, and return the points of all images."""
    if options.images < 1 or options.steps < 1:
        raise UserError(f"--images {options.images} --steps {options.steps}", expected="1 or more of each")
    if (options.out / "curves.csv").exists() and not options.overwrite:
        raise UserError("there are curves already", where=options.out, do="choose another --out, or say --overwrite")
    device = pick_device(options.device)
    dataset = options.data.load()
    loaded = weights.load(options.checkpoint, options.arch, options.variant)
    outputs, index = loaded.network.num_classes, options.data.class_index
    matching = classes.match(dataset, loaded.class_names, outputs, options.checkpoint, exact=True, index=index)
    classes.which_map("label", matching)
    dataset = matching.for_network(dataset)
    usable = [sample for sample in dataset if sample.masks or len(sample.boxes)]
    if not usable:
        raise UserError("no image has a mask or a box", where=options.data.root)
    network, side = for_inference(loaded.network, device), loaded.record.get("input_size", SIDE)
    chosen = [usable[int(place)] for place in np.linspace(0, len(usable) - 1, min(options.images, len(usable)))]
    points, problems = [], []
    for sample in bar(chosen, total=len(chosen), desc="exploring"):
        try:
            points += explore_image(network, sample, dataset.mask_over, options.steps, options.pool, device, side)
        except ImageError as problem:
            problems.append(str(problem))
    for problem in problems:
        print(f"left out: {problem}")
    if not points:
        raise UserError("none of the images could be used", where=options.data.root)
    write(points, options.out)
    print(f"curves and figures: {options.out}")
    return points


def write(points: Sequence[Point], folder: Path) -> None:
    """curves.csv, foreground.png (entropy and activation) and background.png (both activations)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for point in points:
        table.writerow([getattr(point, name) for name in HEADER])
    write_text(folder / "curves.csv", text.getvalue())
    _figure(points, folder / "foreground.png", left="entropy", right="activation")
    _figure(points, folder / "background.png", left="background_activation", right="activation")


def _figure(points: Sequence[Point], path: Path, left: str, right: str) -> None:
    """Two quantities against the mask's area, on axes left and right."""
    from matplotlib.figure import Figure

    several = len({point.image_id for point in points}) > 1
    place = "position" if several else "area"
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    twin = axes.twinx()
    for side, name, colour in ((axes, left, "tab:blue"), (twin, right, "tab:red")):
        x = np.array([getattr(point, place) for point in points])
        y = np.array([getattr(point, name) for point in points])
        if several:
            side.plot(x, y, ".", color=colour, alpha=0.25, markersize=3)
            edges = np.linspace(0, 1, 21)
            bins = np.clip(np.digitize(x, edges) - 1, 0, 19)
            filled = [number for number in range(20) if (bins == number).any()]
            x, y = ([values[bins == number].mean() for number in filled] for values in (x, y))
        side.plot(x, y, "o-", color=colour, markersize=3)
        side.set_ylabel(name.replace("_", " "), color=colour)
    if left == "entropy":
        axes.set_ylim(0, max(6.0, max(point.entropy for point in points)))
    axes.axvline(0.5 if several else next(point.area for point in points if point.step == 0), color="grey", ls="--")
    axes.set_xlabel("mask: empty 0, true 0.5, full 1" if several else "area of the mask; dashed: the true one")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def main() -> None:
    """Run the command line."""
    explore(parse(Explore, prog="python -m bas.exploratory", description=__doc__))


if __name__ == "__main__":
    run_command(main)
