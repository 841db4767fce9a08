"""Segmentation networks whose weights their names determine, and the recorded numbers' inputs."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from tests import fill
from tests.bas.filled import fill_network
from tests.bas.filled import golden as recorded

GOLDEN = Path(__file__).resolve().parents[2] / "golden/bas_segmentation"
SEED, GAIN = 11, 1.2


def golden(name: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a file whose names begin with `prefix`, without it."""
    return recorded(name, prefix, GOLDEN)


def filled(network: nn.Module, dtype: torch.dtype = torch.float64, seed: int = SEED) -> nn.Module:
    """The network with the values of its tensors' names; the stored mean shift stays zero."""
    fill_network(network, seed, GAIN)
    return network.to(dtype)


def inputs(pixels: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    """uint8 images (N, H, W, 3), normalized in float64, rounded to float32."""
    scaled = (pixels / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32)).to(dtype)


def pair(height: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An image and its mirror image, normalized."""
    image = fill.image(height, width, seed)
    return inputs(np.stack([image, image[:, ::-1]]), dtype)


def blocks(height: int, width: int, classes: list[int], seed: int) -> np.ndarray:
    """A label map (H, W) uint8: a grid of 5 x 6 labels drawn from `classes`, a tenth of them 255, enlarged."""
    rng = np.random.RandomState(seed)
    grid = np.asarray(classes, np.uint8)[rng.randint(0, len(classes), (5, 6))]
    grid = np.where(rng.uniform(size=(5, 6)) < 0.1, 255, grid).astype(np.uint8)
    return grid[np.arange(height) * 5 // height][:, np.arange(width) * 6 // width]


def assert_close(found, recorded: np.ndarray, tolerance: float, name: str = "") -> None:
    """Equal within `tolerance` of the recorded array's greatest value."""
    found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    assert found.shape == recorded.shape, (name, found.shape, recorded.shape)
    np.testing.assert_allclose(found, recorded, rtol=0, atol=tolerance * np.abs(recorded).max(), err_msg=name)
