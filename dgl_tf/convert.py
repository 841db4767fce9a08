"""torchvision's ImageNet weights as start files for DGL's networks, and back.

    python -m dgl_tf.convert resnet50 resnet50.safetensors resnet50_tf.npz
    python -m dgl_tf.convert resnet50 resnet50_tf.npz resnet50_back.safetensors --back

PyTorch isn't needed here, so its file has to be a .safetensors (`safetensors.torch.save_file(state_dict, path)`) or a
.npz. VGG16 gives conv1_1 to conv5_3, ResNet50 everything, InceptionV3 all up to Mixed_6e.

The networks agree where strides and padding do. In torchvision's, convolutions of stride 2 pad a pixel more before an
even size, ResNet50's last two stages and Inception's Mixed_6a have a stride of 2, Inception's stem is not padded, and
its average pools count the padding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from safetensors.numpy import save

from common.system.errors import UserError, run_command
from common.system.files import write_atomically
from common.system.options import parse
from dgl_tf import networks, weights

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean/EMA", "running_var": "variance/EMA"}
EPSILON = 1e-3
"""Epsilon of Inception's batch norm, in both libraries."""
TORCHVISION_SCOPES = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BRANCHES = {
    "5": (("branch1x1",), ("branch5x5_1", "branch5x5_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
          ("branch_pool",)),
    "6a": (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ()),
    "6": (("branch1x1",), tuple(f"branch7x7_{number}" for number in (1, 2, 3)),
          tuple(f"branch7x7dbl_{number}" for number in (1, 2, 3, 4, 5)), ("branch_pool",)),
}  # fmt: skip
"""torchvision's names of Inception's convolutions, by kind of block, branch and place."""


def names(arch: str) -> Iterator[tuple[str, str]]:
    """(ours, torchvision's) names of the tensors that both have; Inception's layers instead, without their leaves.

    Raises:
        UserError: torchvision has no such network.
    """
    if arch == "vgg":
        yield from _vgg_names()
    elif arch == "resnet50":
        yield from _resnet_names()
    elif arch == "inceptionv3":
        yield from _inception_names()
    else:
        raise UserError(f"torchvision has no {arch}", expected="vgg, resnet50 or inceptionv3")


def _vgg_names() -> Iterator[tuple[str, str]]:
    place = 0
    for layer in networks.VGG_LAYERS[: networks.VGG_LAYERS.index("conv5_3 512") + 1]:
        name = layer.split()[0]
        if name.startswith("conv"):
            yield f"{name}/W", f"features.{place}.weight"
            yield f"{name}/b", f"features.{place}.bias"
        place += 2 if name.startswith("conv") else 1  # a convolution has its ReLU behind it


def _resnet_names() -> Iterator[tuple[str, str]]:
    units = [("conv0", "conv1", "bn1")]
    for group, blocks in enumerate(networks.RESNET_BLOCKS):
        for block in range(blocks):
            ours, theirs = f"group{group}/block{block}", f"layer{group + 1}.{block}"
            units += [(f"{ours}/conv{part}", f"{theirs}.conv{part}", f"{theirs}.bn{part}") for part in (1, 2, 3)]
        theirs = f"layer{group + 1}.0.downsample"
        units.append((f"group{group}/block0/convshortcut", f"{theirs}.0", f"{theirs}.1"))
    for ours, convolution, norm in units:
        yield f"{ours}/W", f"{convolution}.weight"
        yield from ((f"{ours}/bn/{leaf}", f"{norm}.{theirs}") for theirs, leaf in NORM.items())
    yield from (("linear/W", "fc.weight"), ("linear/b", "fc.bias"))


def _inception_names() -> Iterator[tuple[str, str]]:
    for scope in TORCHVISION_SCOPES:
        yield f"InceptionV3/{scope}", scope
    for block, branches in networks.INCEPTION_BLOCKS.items():
        kind = "6a" if block == "Mixed_6a" else block[6]
        for number, (branch, theirs) in enumerate(zip(branches, BRANCHES[kind], strict=True)):
            convolutions = [layer.split()[0] for layer in branch if layer not in ("average", "max")]
            for ours, name in zip(convolutions, theirs, strict=True):
                yield f"InceptionV3/{block}/Branch_{number}/{ours}", f"{block}.{name}"


def from_torchvision(arch: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our variables from torchvision's state dict, for BGR input.

    Args:
        arch: vgg, resnet50 or inceptionv3.
        state: arrays by name; kernels (out, in, height, width).

    Raises:
        UserError: a tensor is missing.
    """
    _need(state, [theirs if arch != "inceptionv3" else f"{theirs}.conv.weight" for _, theirs in names(arch)])
    arrays: dict[str, np.ndarray] = {}
    for ours, theirs in names(arch):
        if arch == "inceptionv3":
            arrays |= _slim_unit(ours, {leaf: state[f"{theirs}.{leaf}"] for leaf in _LEAVES})
        else:
            arrays[ours] = _to_tensorflow(state[theirs])
    return {name: _reversed_input(value) for name, value in arrays.items()}


def to_torchvision(arch: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `from_torchvision`, of what both networks have; Inception gets a gamma of one."""
    state: dict[str, np.ndarray] = {}
    if arch != "inceptionv3":
        _need(arrays, [ours for ours, _ in names(arch)])
        return {theirs: _to_torch(_reversed_input(arrays[ours])) for ours, theirs in names(arch)}
    _need(arrays, [f"{ours}/weights" for ours, _ in names(arch)])
    for ours, theirs in names(arch):
        norm = f"{ours}/BatchNorm"
        state[f"{theirs}.conv.weight"] = _to_torch(_reversed_input(arrays[f"{ours}/weights"]))
        state[f"{theirs}.bn.weight"] = np.ones_like(arrays[f"{norm}/beta"])
        state[f"{theirs}.bn.bias"] = arrays[f"{norm}/beta"]
        state[f"{theirs}.bn.running_mean"] = arrays[f"{norm}/moving_mean"]
        state[f"{theirs}.bn.running_var"] = arrays[f"{norm}/moving_variance"]
    return state


_LEAVES = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def _slim_unit(ours: str, unit: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A convolution whose batch norm has no gamma: its sign goes into kernel and mean, its size into the variance."""
    gamma = unit["bn.weight"].astype(np.float64)
    if not gamma.all():
        raise UserError(f"a gamma of zero in {ours} can't be expressed without one", do="take other weights")
    sign = np.sign(gamma)
    variance = (unit["bn.running_var"] + EPSILON) / gamma**2 - EPSILON
    return {
        f"{ours}/weights": _to_tensorflow(unit["conv.weight"] * sign[:, None, None, None]),
        f"{ours}/BatchNorm/beta": unit["bn.bias"].astype(np.float32),
        f"{ours}/BatchNorm/moving_mean": (unit["bn.running_mean"] * sign).astype(np.float32),
        f"{ours}/BatchNorm/moving_variance": variance.astype(np.float32),
    }


def _to_tensorflow(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T if values.ndim == 2 else values


def _to_torch(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T)


def _reversed_input(values: np.ndarray) -> np.ndarray:
    """The first kernel between RGB and BGR; any other as it is."""
    return values[:, :, ::-1] if values.ndim == 4 and values.shape[2] == 3 else values


def _need(arrays: Mapping[str, np.ndarray], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise UserError(f"{len(missing)} of {len(wanted)} tensors are missing, such as {missing[0]}",
                        do="check the architecture and the direction")  # fmt: skip


@dataclass(frozen=True)
class Convert:
    """Convert weights from torchvision, or back to it."""

    arch: tyro.conf.Positional[Literal["vgg", "resnet50", "inceptionv3"]]
    """The network."""
    source: tyro.conf.Positional[Path]
    """.safetensors, .npz, or with --back a TensorFlow checkpoint too."""
    out: tyro.conf.Positional[Path]
    """The new file: a .npz, or with --back a .safetensors."""
    back: bool = False
    """Convert our names to torchvision's, not the reverse."""


def convert(options: Convert) -> None:
    """Convert the checkpoint and write it."""
    suffix = ".safetensors" if options.back else ".npz"
    if options.out.suffix != suffix:
        raise UserError(f"--out {options.out}", expected=f"a name that ends in {suffix}")
    if options.out.exists():
        raise UserError("the file is there already", where=options.out, do="choose another name")
    checkpoint = weights.open_checkpoint(options.source)
    arrays = {name: checkpoint.read(name) for name in checkpoint.shapes}
    if options.back:
        content = save({name: np.ascontiguousarray(v) for name, v in to_torchvision(options.arch, arrays).items()})
        write_atomically(options.out, lambda file: file.write(content))
    else:
        weights.write_npz(options.out, from_torchvision(options.arch, arrays))
    print(f"written: {options.out}")


def main() -> None:
    """Run the command line."""
    convert(parse(Convert, prog="python -m dgl_tf.convert", description=__doc__))


if __name__ == "__main__":
    run_command(main)
