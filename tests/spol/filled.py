"""MFF-Nets whose weights their names determine, and the recorded numbers' inputs."""

import numpy as np
import torch

from spol.models import MffNet, build
from spol.preprocessing import normalized
from tests import fill
from tests.bas.filled import fill_network


def network(stage: str, classes: int = 200, backbone: str = "resnet50") -> MffNet:
    """A network as the recorded numbers have it, seed 0 and gain 1.3."""
    made = build(stage, classes, backbone)
    fill_network(made, seed=0, gain=1.3)
    return made


def images(count: int, side: int, seed: int) -> torch.Tensor:
    """Normalized float32 (N, 3, side, side)."""
    return (
        torch.from_numpy(np.stack([normalized(image) for image in fill.batch(count, side, side, seed)]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def close(found, recorded: np.ndarray, tolerance: float, name: str = "") -> None:
    """Relative to the array's largest value."""
    found = found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    np.testing.assert_allclose(found, recorded, rtol=0, atol=tolerance * np.abs(recorded).max(), err_msg=name)
