"""BAS for segmentation: class maps and the random walk against a plain re-enactment of the released steps.

    python -m benchmarks.segmentation

The release computes both halves of the BAS network for maps that need the first alone, enlarges the maps of all classes
to the image before it keeps the image's own, and for the walk squares a dense matrix of pixels by pixels eight times.
Ours and that run on the same image and weights; maps are compared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from bas.segmentation.affinity import directions, margin, random_walk
from bas.segmentation.images import flipped_pair
from bas.segmentation.maps import SCALES, class_maps
from bas.segmentation.networks import BasNetwork, build_bas, pair_maps
from common.pytorch.runtime import for_inference, keep_freed_memory


@dataclass(frozen=True)
class Benchmark:
    """Compare class maps and the random walk with the released procedure."""

    backbone: str = "resnet50"
    """Backbone of the BAS network."""
    classes: int = 20
    """C."""
    height: int = 375
    """Pixels of the image on this side."""
    width: int = 500
    """Pixels of the image on this side."""
    grid: tuple[int, int] = (48, 64)
    """Height and width of the walk; the released procedure needs (height x width) ** 2 numbers."""
    repeats: int = 3
    """Measurements, of which the least counts."""
    threads: int = 1
    """Threads of PyTorch, for both."""


def released_maps(network: BasNetwork, pairs: list[Tensor], classes: list[int], size: tuple[int, int]):
    """The maps of one network as the release makes them: every class at full size, then the image's own."""
    strided, high = 0, 0
    padded = tuple(-(-side // 16) * 16 for side in size)
    for pair in pairs:
        features = network.extract(pair)
        network.classify(features).mean(dim=(2, 3))
        first, second = network.classifier_loc(features)
        maps = (first + second.flip(-1))[None]
        small = tuple(-(-side // 4) for side in size)
        strided = strided + F.interpolate(maps, small, mode="bilinear", align_corners=False)[0]
        high = high + F.interpolate(maps, padded, mode="bilinear", align_corners=False)[0]
    kept = [strided[classes], high[classes, : size[0], : size[1]]]
    return [maps / (maps.amax(dim=(1, 2), keepdim=True) + 1e-5) for maps in kept]


def released_walk(maps: Tensor, edges: Tensor, radius: int = 5, beta: float = 10, exponent: int = 8) -> Tensor:
    """The walk as the release makes it: a dense matrix of the padded grid, squared, the padding then cut off."""
    reach = margin(radius)
    padded = F.pad(edges, (reach, reach, 0, reach), value=1.0)
    height, width = padded.shape
    numbers = torch.arange(height * width).view(height, width)
    sources = numbers[: height - reach, reach : width - reach].flatten()
    matrix = torch.eye(height * width, dtype=edges.dtype)
    for direction in directions(radius):
        path = torch.stack([padded.flatten()[sources + y * width + x] for y, x in direction.path])
        values = 1 - path.max(dim=0).values
        ends = sources + direction.to[0] * width + direction.to[1]
        matrix[sources, ends] = values
        matrix[ends, sources] = values
    matrix = matrix**beta
    matrix = matrix / matrix.sum(dim=0, keepdim=True)
    for _ in range(exponent):
        matrix = matrix @ matrix
    values = F.pad(maps * (1 - edges), (reach, reach, 0, reach)).flatten(1) @ matrix
    return values.view(-1, height, width)[:, : height - reach, reach : width - reach]


def least(work: Callable, repeats: int) -> tuple[float, object]:
    """The least CPU time of several calls in seconds, and what the last one gave."""
    times, found = [], None
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        times.append(time.process_time() - start)
    return min(times), found


@torch.inference_mode()
def main() -> None:
    """Run the command line."""
    options = tyro.cli(Benchmark, description=__doc__)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    network = for_inference(build_bas(options.backbone, options.classes), torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (options.height, options.width, 3)).astype(np.uint8)
    pairs, classes, size = [flipped_pair(image, scale) for scale in SCALES], [2, 14], image.shape[:2]
    released, theirs = least(lambda: released_maps(network, pairs, classes, size), options.repeats)
    here, ours = least(
        lambda: class_maps([lambda pair: pair_maps(network, pair)], pairs, classes, size), options.repeats
    )
    floor, _ = least(lambda: [network.extract(pair) for pair in pairs], options.repeats)
    apart = max(float((one - two).abs().max()) for one, two in zip(ours, theirs, strict=True))
    print(f"maps of an image: {released:.2f} s to {here:.2f} s ({released / here:.2f} times), "
          f"features alone {floor:.2f}; greatest difference {apart:.1e}")  # fmt: skip
    edges, maps = torch.rand(options.grid) ** 2, torch.rand(2, *options.grid)
    released, theirs = least(lambda: released_walk(maps, edges), 1)
    here, ours = least(lambda: random_walk(maps, edges), options.repeats)
    apart = float((ours - theirs).abs().max() / theirs.max())
    print(f"random walk on {options.grid[0]} x {options.grid[1]}: {released:.2f} s to {here:.3f} s "
          f"({released / here:.0f} times); greatest difference {apart:.1e} of the maximum")  # fmt: skip


if __name__ == "__main__":
    main()
