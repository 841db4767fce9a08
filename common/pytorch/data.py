"""Batches of images for training and for localization, the same on every machine and with any number of workers."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from common.datasets import Sample
from common.measuring.geometry import SIDE, Frame, seen_kind
from common.pictures.images import ImageError, read_rgb
from common.pictures.inputs import centre_crop, resize, ten_crops_of
from common.pytorch import distributed
from common.system.errors import UserError
from common.system.options import also
from common.system.wording import number_of


@dataclass(frozen=True)
class Augmentation:
    """Training geometry of BAS and SPOL: squash to `resize`, cut a random `crop`, mirror every other image."""

    resize: int = 256
    crop: Annotated[int, also("crop")] = 224
    method: str = "pillow"


class TrainingImages(Dataset[Any]):
    """Augmented training images as uint8 (3, crop, crop) RGB with their labels.

    What happens to an image depends on the seed, the epoch and the image alone, never on the worker that loads it or
    on what was loaded before, so a resumed run sees what the uninterrupted one would have.
    """

    def __init__(self, samples: Sequence[Sample], augmentation: Augmentation, seed: int):
        self.samples, self.augmentation, self.seed = samples, augmentation, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | ImageError:
        epoch, index = key
        sample, size = self.samples[index], self.augmentation
        rng = np.random.default_rng((self.seed, epoch, index))
        try:
            image = read_rgb(sample.path)
        except ImageError as problem:
            return problem
        image = resize(image, (size.resize, size.resize), size.method)
        y, x = rng.integers(0, size.resize - size.crop + 1, 2)
        image = image[y : y + size.crop, x : x + size.crop]
        if rng.random() < 0.5:
            image = image[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), sample.label


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys in the epoch's own shuffled order; of several processes each takes its share.

    A last batch of one image is left out of every epoch, which is said: batch norm has nothing to compare one image
    with, and ends there where it sees a vector an image, as in SPOL's attention.

    Attributes:
        epoch, first_batch: where the next pass begins; set before each pass.
        batches: how many a whole pass has, the last one as small as it comes, or left out where `drop_last` says so.
    """

    def __init__(self, length: int, seed: int, batch_size: int, drop_last: bool = False):
        self.length, self.seed, self.batch_size = length, seed, batch_size
        self.epoch, self.first_batch = 0, 0
        whole, left = divmod(length, batch_size)
        alone = left == 1 and whole > 0
        kept = left > 0 and not alone and not drop_last
        self.batches = whole + kept
        if self.batches == 0:
            what = number_of(length, "image doesn't", "images don't")
            raise UserError(f"{what} fill a batch of {batch_size}", do="choose a smaller --batch-size")
        smallest = left if kept else batch_size
        if smallest < distributed.world_size():
            what = number_of(smallest, "image", "images")
            raise UserError(f"{distributed.world_size()} processes can't share a batch of {what}",
                            do="choose another --batch-size or fewer processes")  # fmt: skip
        if alone and distributed.rank() == 0:
            print(f"note: each epoch's last batch would be one image, too few for batch norm: of {length} images it "
                  "leaves out one, another in each epoch")  # fmt: skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for number in range(self.first_batch, self.batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            share = np.array_split(batch, distributed.world_size())[distributed.rank()]
            yield [(self.epoch, int(index)) for index in share]

    def __len__(self) -> int:
        return self.batches - self.first_batch


def end_when_unsent(_number: int) -> None:
    """Let a process of a loader, which calls this first, end when it can't send what it loaded.

    For want of shared memory, or of files that it may open. Python would show that, forget the batch, and the loader
    would wait for it for ever.
    """

    def end(_error: Exception, _item: Any) -> None:
        os._exit(1)

    Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]  # private, so without a type


class TrainingLoader(DataLoader[Any]):
    """Batches in the order of `EpochBatches`, of images that are `samples`."""

    batch_sampler: EpochBatches
    dataset: Any


def training_loader(
    samples: Sequence[Sample], augmentation: Augmentation, batch_size: int, seed: int, workers: int
) -> TrainingLoader:
    """Batches of (images (B, 3, H, W) uint8, labels (B,)); set `loader.batch_sampler.epoch` before each pass."""
    return loader_of(TrainingImages(samples, augmentation, seed), len(samples), batch_size, seed, workers)


def loader_of(
    images: Dataset[Any], length: int, batch_size: int, seed: int, workers: int, drop_last: bool = False
) -> TrainingLoader:
    """Batches of training images in the order of `EpochBatches`; where one can't be read, its error in their place.

    Args:
        images: by (epoch, index): an image (3, H, W) with its label, a number or a tensor; or a `UserError`.
        length: how many there are.
        batch_size, seed, drop_last: see `EpochBatches`.
        workers: processes that load images.
    """
    return TrainingLoader(
        images,
        batch_sampler=EpochBatches(length, seed, batch_size, drop_last),
        num_workers=workers,
        collate_fn=_collate_training,
        worker_init_fn=end_when_unsent,
        # Each pass draws a seed for its workers. From a generator of its own, or a pass that is resumed in its middle
        # would draw once more than the uninterrupted one and shift every random number after it.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def _collate_training(items: list) -> tuple[Tensor, Tensor] | UserError:
    for item in items:
        if isinstance(item, UserError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.stack([torch.as_tensor(label) for label in labels])


@dataclass(frozen=True, eq=False)
class LocalizationItem:
    """One image ready for a network.

    Attributes:
        sample: which.
        frames: for each kind asked for.
        views: for each kind the uint8 view (3, H, W) RGB of that frame.
        crops: (10, 3, H, W) uint8, or None when ten-crop classification isn't wanted.
        problem: set instead of all that when the image can't be used.
    """

    sample: Sample
    frames: tuple[Frame, ...] = ()
    views: tuple[Tensor, ...] = ()
    crops: Tensor | None = None
    problem: str | None = None


class LocalizationImages(Dataset[LocalizationItem]):
    """Images in one or more frames, and their ten crops.

    Args:
        samples: the images.
        kinds: of the frames, such as `resize 224` or `resize 256 crop 224`.
        crops: 10 for ten crops beside the frames, or 1 for the frames alone.
        method: of `common.pictures.inputs.resize`.
        side: pixels of what the network sees of a frame of 224, and of each crop.

    Raises:
        ValueError: another number of crops.
    """

    def __init__(
        self, samples: Sequence[Sample], kinds: Sequence[str], crops: int, method: str = "pillow", side: int = SIDE
    ):
        if crops not in (1, 10):
            raise ValueError(f"{crops} crops, expected 1 or 10")
        self.samples, self.kinds, self.crops, self.method = samples, tuple(kinds), crops, method
        self.side = side

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> LocalizationItem:
        sample = self.samples[index]
        try:
            image = read_rgb(sample.path)
        except ImageError as problem:
            return LocalizationItem(sample, problem=problem.found)
        size = (image.shape[1], image.shape[0])
        frames = tuple(Frame.of_kind(kind, size) for kind in self.kinds)
        seen = (Frame.of_kind(seen_kind(kind, self.side), size) for kind in self.kinds)
        views = tuple(channels_first(frame_pixels(image, frame, self.method)) for frame in seen)
        crops = None
        if self.crops == 10:
            crops = channels_first(ten_crops_of(image, self.side, self.method))
        return LocalizationItem(sample, frames, views, crops)


def frame_pixels(image: np.ndarray, frame: Frame, method: str = "pillow") -> np.ndarray:
    """The part of an image (H, W, 3) that a frame shows, at the frame's size."""
    resized = resize(image, frame.resized, method)
    return resized if frame.size == frame.resized else centre_crop(resized, frame.size[0])


def channels_first(images: np.ndarray) -> Tensor:
    """(..., H, W, 3) to a tensor (..., 3, H, W) of its own memory."""
    return torch.from_numpy(np.array(np.moveaxis(images, -1, -3)))


def localization_loader(images: LocalizationImages, batch_size: int, workers: int) -> DataLoader[LocalizationItem]:
    """Lists of `LocalizationItem`, in order."""
    return DataLoader(
        images,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=end_when_unsent,
        generator=torch.Generator(),  # a training that validates in between must not draw from the shared one
    )


def normalized(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    layout: torch.memory_format = torch.channels_last,
) -> Tensor:
    """uint8 (B, 3, H, W) to float32 on `device`: (value / 255 - mean) / std.

    `layout` is that of inference; a training keeps the one that `fit` gave its images.
    """
    images = images.to(device, non_blocking=True).to(torch.float32, memory_format=layout) / 255.0

    def constant(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)

    return (images - constant(mean)) / constant(std)
