"""BAS networks whose weights their names determine, and the recorded numbers' inputs."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from bas.backbones import build
from bas.network import Network
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.pytorch.data import normalized
from tests import fill

GOLDEN = Path(__file__).resolve().parents[1] / "golden/bas"
NORM_KINDS = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "var"}
ALL = [(variant, arch) for variant in ("CUB", "ILSVRC", "EXT") for arch in ("vgg", "mobilenet", "resnet", "inception")]


@torch.no_grad()
def fill_network(network: nn.Module, seed: int, gain: float) -> None:
    """Give every parameter and running statistic the values of its name; IRN's stored mean shift stays as it is."""
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)}
    for name, tensor in network.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked" or owner == "mean_shift":
            continue
        shape = tuple(tensor.shape)
        if owner in norms:
            array = fill.values(name, shape, NORM_KINDS[leaf], seed)
        elif len(shape) > 1:
            array = fill.values(name, shape, "kernel", seed, gain, int(np.prod(shape[1:])))
        else:
            array = fill.values(name, shape, "bias", seed)
        tensor.copy_(torch.from_numpy(array))


def network(variant: str, arch: str, classes: int | None = None, seed: int = 11) -> Network:
    """A network as the recorded numbers have it."""
    made = build(arch, variant, classes)
    fill_network(made, seed, 1.2 if arch == "resnet" else 2.0)
    return made


def images(count: int, seed: int, side: int = 224) -> torch.Tensor:
    """Normalized float32 (N, 3, side, side)."""
    pixels = torch.from_numpy(fill.batch(count, side, side, seed)).permute(0, 3, 1, 2)
    return normalized(pixels, IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))


def golden(name: str, prefix: str = "", folder: Path = GOLDEN) -> dict[str, np.ndarray]:
    """The arrays of a file whose names begin with `prefix`, without it."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
