"""SPOL: pseudo masks, and the whole test stage, against a plain re-enactment of the released procedure.

    python -m benchmarks.spol

The release fills each contour on the whole 256 x 256 grid, takes moments and Gaussians over full coordinate grids in
double precision, resizes three channels and does all that in the main process. Its test script sends one image at a
time through the network, and on ImageNet runs the whole transform once for each annotated object. Ours and that run on
the same maps, images and weights; bytes and boxes are compared.
"""

import contextlib
import functools
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch.utils.data import DataLoader, Dataset

from common.pictures.inputs import centre_crop
from common.pytorch.runtime import compiled, for_inference, keep_freed_memory
from common.runs.reader import Predictions
from common.system.parallel import pool_of
from spol import weights
from spol.models import build
from spol.options import Source
from spol.preprocessing import normalized
from spol.pseudo_masks import pseudo_mask
from spol.seg.test import Localize, localize


@dataclass(frozen=True)
class Benchmark:
    """Compare pseudo masks and the test stage with the released procedure."""

    maps: int = 200
    """Random maps to make pseudo masks of."""
    images: int = 48
    """Images of 500 x 375 to localize."""
    objects: int = 2
    """Annotated objects an image: ImageNet's script transforms the image once for each, CUB's once in all."""
    backbone: str = "resnet50"
    """Backbone of the test stage."""
    repeats: int = 3
    """Measurements, of which the least counts."""
    threads: int = 1
    """Threads of PyTorch, for both."""


def released_pseudo_mask(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The procedure as the release carries it out, step by step; (height, width, 3) uint8."""
    enlarged = cv2.resize(raw / (raw.max() + np.float32(1e-6)), (256, 256), interpolation=cv2.INTER_LINEAR)
    band = enlarged.copy()
    band[band < 0.1] = 0
    band[band > 0.5] = 0
    contours = cv2.findContours(np.uint8(band > 0) * 255, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    grid_x, grid_y = np.meshgrid(np.arange(256), np.arange(256))
    gaussians = []
    for number, contour in enumerate(contours):
        if cv2.contourArea(contour) < 20:
            continue
        filled = np.zeros((256, 256, 3), np.float64)
        cv2.drawContours(filled, contours, number, (1, 1, 1), -1)
        weight = filled[..., 0] * band
        weight = weight / weight.sum()
        ux, uy = (weight * grid_x).sum(), (weight * grid_y).sum()
        sx, sy = (weight * (grid_x - ux) ** 2).sum() / 10, (weight * (grid_y - uy) ** 2).sum() / 10
        sxy = (weight * (grid_x - ux) * (grid_y - uy)).sum() / 10
        k = sxy**2 / (sx * sy)
        distance = (
            (grid_x - ux) ** 2 / sx - 2 * (grid_x - ux) * (grid_y - uy) * sxy / (sx * sy) + (grid_y - uy) ** 2 / sy
        )
        gaussians.append(np.exp(-1 / (2 * (1 - k)) * distance))
    highest = np.stack(gaussians).max(axis=0) if gaussians else np.zeros((256, 256))
    stacked = np.stack([255 * enlarged, 255 * highest, np.zeros((256, 256))], axis=-1)
    return cv2.resize(stacked, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def random_map(seed: int) -> np.ndarray:
    """A map (32, 32) float32 of several blobs, as trained networks give."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    blobs = (
        rng.random() * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(4, 60))
        for cx, cy in rng.random((4, 2)) * 32
    )
    return np.maximum(sum(blobs) + 0.01 * rng.standard_normal((32, 32)), 0).astype(np.float32)


def _masks_of(maps: list[np.ndarray], make: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> None:
    cv2.setNumThreads(1)
    for raw in maps:
        make(raw, (500, 375))


def pseudo_masks(options: Benchmark) -> None:
    """Print milliseconds a map in one process each, then maps a second of ours in two."""
    maps = [random_map(seed) for seed in range(options.maps)]
    for raw in maps:
        if not np.array_equal(pseudo_mask(raw, (500, 375)), released_pseudo_mask(raw, (500, 375))[..., :2]):
            raise SystemExit("pseudo masks: the bytes differ")
    theirs, one, two = (
        _rate(options, maps, make, processes)
        for make, processes in ((released_pseudo_mask, 1), (pseudo_mask, 1), (pseudo_mask, 2))
    )
    print(f"pseudo masks: {1e3 / theirs:.2f} ms a map as released, {1e3 / one:.2f} ms here; "
          f"{one / theirs:.2f} times as fast, equal bytes")  # fmt: skip
    print(f"pseudo masks here: {one:.0f} maps a second in 1 process, {two:.0f} in 2")


def _rate(options: Benchmark, maps: list[np.ndarray], make: Callable, processes: int) -> float:
    """Maps a second."""
    begin = keep_freed_memory if make is pseudo_mask else None
    with pool_of(processes, multiprocessing.get_context("spawn"), begin) as pool:
        shares = [maps[start::8] for start in range(8)]
        work = functools.partial(_masks_of, make=make)
        list(pool.map(work, shares))
        return len(maps) / _least(options, lambda: list(pool.map(work, shares)))


class ReleasedImages(Dataset):
    """Images as the release's test scripts load them, with the image's own pixels sent along."""

    def __init__(self, paths: list[Path], objects: int):
        self.paths, self.objects = paths, objects

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.imread(str(self.paths[index]))[..., ::-1]
        for _ in range(self.objects):
            view = centre_crop(cv2.resize(normalized(image), (256, 256)), 224)
        return np.ascontiguousarray(view.transpose(2, 0, 1)), np.ascontiguousarray(image)


@torch.no_grad()
def released_boxes(checkpoint: Path, paths: list[Path], objects: int) -> list[list[int]]:
    """The test scripts' loop: one image at a time, largest contour by area."""
    network = weights.load(checkpoint).network.eval()
    boxes = []
    for view, _ in DataLoader(ReleasedImages(paths, objects), batch_size=1, num_workers=1):
        logits = F.interpolate(network(view), size=(224, 224), mode="bilinear", align_corners=True)
        mask = np.uint8(torch.sigmoid(logits)[0, 0].numpy() > 0.2) * 255
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
        x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
        boxes.append([x, y, x + width, y + height])
    return boxes


def test_stage(options: Benchmark) -> None:
    """Print seconds for the whole test stage, reading to boxes."""
    with tempfile.TemporaryDirectory() as scratch:
        root, checkpoint = Path(scratch), Path(scratch) / "model-8"
        paths = _photographs(root, options.images)
        torch.manual_seed(0)
        weights.write_released(checkpoint, build("seg", backbone=options.backbone))
        runs = iter(range(100))

        def ours() -> list[list[int]]:
            run = Localize(
                data=Source("folder", root / "images", "all"), snapshot=checkpoint, out=root / f"run{next(runs)}",
                frames=("crop",), maps=False, device="auto", batch_size=8,
            )  # fmt: skip
            with contextlib.redirect_stdout(io.StringIO()):
                (directory,) = localize(run)
            return [entry.box.astype(int).tolist() for entry in Predictions.open(directory).entries]

        theirs = _least(options, lambda: released_boxes(checkpoint, paths, options.objects))
        mine = _least(options, ours)
        network = for_inference(weights.load(checkpoint).network, torch.device("cpu"))
        floor = _least(options, lambda: _forwards(network, len(paths)))
        loading = _least(options, lambda: weights.load(checkpoint))
        fast = compiled(network)
        start = time.perf_counter()
        _forwards(fast, 8)
        start = time.perf_counter() - start
        faster = _least(options, lambda: _forwards(fast, len(paths)))
        same = sum(a == b for a, b in zip(released_boxes(checkpoint, paths, 1), ours(), strict=True))
    print(f"test stage, {options.backbone}, {len(paths)} images: {theirs:.2f} s as released, {mine:.2f} s here; "
          f"{theirs / mine:.2f} times as fast, {same} boxes equal; loading the network {loading:.2f} s, "
          f"forward passes alone {floor:.2f} s, {faster:.2f} s with --compile, "
          f"after a start of {start:.0f} s")  # fmt: skip


@torch.no_grad()
def _forwards(network: torch.nn.Module, count: int) -> None:
    for start in range(0, count, 8):
        network(torch.zeros(min(8, count - start), 3, 224, 224).to(memory_format=torch.channels_last))


def _photographs(root: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = rng.integers(0, 255, (24, 32, 3), np.uint8)
        paths.append(root / "images" / "class" / f"{number:03}.jpg")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(paths[-1]), cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))
    return paths


def _least(options: Benchmark, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print a line for each claim."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.spol", description=__doc__)
    torch.set_num_threads(options.threads)
    pseudo_masks(options)
    test_stage(options)


if __name__ == "__main__":
    main()
