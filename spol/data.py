"""Batches for the three stages, the same on every machine and with any number of workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.datasets import Sample
from common.measuring.geometry import Frame
from common.pictures.images import ImageError
from common.pytorch.data import channels_first, end_when_unsent
from common.system.errors import UserError, inside
from spol.preprocessing import Geometry, Preprocessing, nearest, read_pseudo_mask, target

MASK_MANIFEST = "manifest.json"
"""File that `spol.cam.test` writes beside its pseudo masks: whose they are, which images have none."""
MASK_ENDINGS = (".png", ".JPEG")
"""Endings of pseudo masks: ours and CUB's, then ImageNet's."""


def mask_path(folder: Path, image_id: str, ending: str = ".png") -> Path:
    """Path of an image's pseudo mask; an id that leaves the folder is refused (`UserError`)."""
    return inside(folder, image_id, where=folder).with_suffix(ending)


class TrainingImages(Dataset):
    """Augmented images, float32 (3, crop, crop) normalized RGB, with labels or with segmentation targets.

    What happens to an image depends on the seed, the epoch and the image alone, so a resumed run sees what the
    uninterrupted one would have.

    Args:
        samples: the training images.
        resize, crop: sides.
        preprocessing: how.
        seed: of the draws.
        masks: the folder of pseudo masks; None gives labels instead.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        resize: int,
        crop: int,
        preprocessing: Preprocessing,
        seed: int,
        masks: Path | None = None,
    ):
        self.samples, self.resize, self.crop = samples, resize, crop
        self.preprocessing, self.seed, self.masks = preprocessing, seed, masks

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | UserError:
        epoch, index = key
        sample = self.samples[index]
        uniform = np.random.default_rng((self.seed, epoch, index)).random
        geometry = Geometry.draw(uniform, self.resize, self.crop, self.preprocessing.crop_short_of_edge)
        try:
            image = self.preprocessing.read(sample.path)
            wanted = torch.tensor(sample.label) if self.masks is None else self._target(self.masks, sample, geometry)
        except UserError as problem:
            return problem
        image = geometry.cut(self.preprocessing.squash(image, (self.resize, self.resize)))
        return channels_first(image), wanted

    def _target(self, masks: Path, sample: Sample, geometry: Geometry) -> Tensor:
        """Codes (crop, crop) uint8, in the image's own crop."""
        paths = [mask_path(masks, sample.image_id, ending) for ending in MASK_ENDINGS]
        for path in paths:
            mask = read_pseudo_mask(path)
            if mask is not None:
                fore, gaus = np.moveaxis(geometry.cut(nearest(mask, self.resize)), -1, 0)
                return torch.from_numpy(target(fore, gaus))
        for path in paths:
            if path.exists():
                raise UserError("a pseudo mask that can't be read", where=path, expected="an image",
                                do="delete it and run spol.cam.test on these images")  # fmt: skip
        raise UserError("no pseudo mask", where=paths[0], do="run spol.cam.test on these images")


@dataclass(frozen=True, eq=False)
class Item:
    """One image ready for a network.

    Attributes:
        sample: which.
        frames: one for each kind asked for.
        views: for each the image, (3, height, width) float32.
        problem: set instead of those when the image can't be used.
    """

    sample: Sample
    frames: tuple[Frame, ...] = ()
    views: tuple[Tensor, ...] = ()
    problem: str | None = None


class Images(Dataset):
    """Images as networks see them at test, in one or more frames.

    Args:
        samples: which.
        kinds: of frames, such as `resize 256`; see `common.measuring.geometry`.
        preprocessing: how.
    """

    def __init__(self, samples: Sequence[Sample], kinds: Sequence[str], preprocessing: Preprocessing):
        self.samples, self.kinds, self.preprocessing = samples, tuple(kinds), preprocessing

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        try:
            image = self.preprocessing.read(sample.path)
        except ImageError as problem:
            return Item(sample, problem=problem.found)
        frames = tuple(Frame.of_kind(kind, (image.shape[1], image.shape[0])) for kind in self.kinds)
        return Item(sample, frames, tuple(channels_first(self.preprocessing.view(image, frame)) for frame in frames))


def image_batches(images: Images, batch_size: int, workers: int) -> DataLoader:
    """Lists of `Item`, in order."""
    return DataLoader(
        images, batch_size=batch_size, num_workers=workers, collate_fn=list, worker_init_fn=end_when_unsent
    )


def stacked(items: Sequence[Item], number: int, device: torch.device) -> Tensor:
    """View `number` of every item, (B, 3, height, width) on a device."""
    batch = torch.stack([item.views[number] for item in items])
    return batch.to(device, memory_format=torch.channels_last, non_blocking=True)


def without_problems(items: Sequence[Item], skip: Callable[[str, str], Any]) -> list[Item]:
    """The items that can be used; `skip` is told the id of every other and why."""
    for item in items:
        if item.problem:
            skip(item.sample.image_id, item.problem)
    return [item for item in items if not item.problem]
