"""MobileNetV1 (Howard et al. 2017) as TF-Slim built it, so that Google's ImageNet weights give Google's numbers.

Three details differ from most PyTorch versions: TensorFlow's SAME padding (a stride-2 convolution on an even size pads
nothing before and one pixel after), ReLU6, and a batch-norm epsilon of 1e-3.
"""

from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Output channels and stride of the 13 depthwise-separable blocks."""


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for any input size: output = ceil(input / stride)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1,
        bias: bool = False,
    ):  # fmt: skip
        super().__init__(channels_in, channels_out, kernel, stride, bias=bias, groups=groups)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        padding = same_padding(images, self.kernel_size, self.stride)
        if padding[0] == padding[1] and padding[2] == padding[3]:
            return F.conv2d(images, self.weight, self.bias, self.stride, (padding[2], padding[0]), 1, self.groups)
        return F.conv2d(F.pad(images, padding), self.weight, self.bias, self.stride, 0, 1, self.groups)


def same_padding(images: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """Left, right, top and bottom of TensorFlow's SAME padding: what is odd is padded behind."""
    padding: list[int] = []
    for size, length, step in zip(images.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max((-(-size // step) - 1) * step + length - size, 0)
        padding += [total // 2, total - total // 2]
    return padding


def unit(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    """A convolution with SAME padding, its batch norm, ReLU6."""
    # Batch norm keeps PyTorch's momentum: at TF-Slim's, 0.003, a short fine-tuning ends with ImageNet's statistics.
    return nn.Sequential(
        SameConv(channels_in, channels_out, kernel, stride, groups),
        nn.BatchNorm2d(channels_out, eps=1e-3),
        nn.ReLU6(),
    )


class MobileNetV1Features(nn.Sequential):
    """Images (B, 3, H, W) in [-1, 1], RGB, to features (B, 1024, H / 32, W / 32), after ReLU6.

    Args:
        output_stride: 32 as published; 16 takes the last stride away (block 12), which doubles the maps' size with
            the same weights.
    """

    def __init__(self, output_stride: int = 32):
        if output_stride not in (16, 32):
            raise ValueError(f"output stride {output_stride}, expected 16 or 32")
        units = [("conv_0", unit(3, 32, 3, 2))]
        channels_in = 32
        for number, (channels, stride) in enumerate(BLOCKS, start=1):
            stride = 1 if number == 12 and output_stride == 16 else stride
            units.append((f"depthwise_{number}", unit(channels_in, channels_in, 3, stride, groups=channels_in)))
            units.append((f"pointwise_{number}", unit(channels_in, channels, 1, 1)))
            channels_in = channels
        super().__init__(OrderedDict(units))


def from_tf_slim(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """TF-Slim's arrays as a state dict for `MobileNetV1Features`, and the 1000-way head.

    Args:
        arrays: by name, `MobilenetV1/Conv2d_0/weights` and so on, HWIO; see `common.weights`.

    Returns:
        The features' state dict; the head's weight (1000, 1024) and bias (1000,), ImageNet's classes in the order of
        their wnids (TF-Slim's unused class 0 is dropped).
    """
    state = {}
    for number in range(14):
        for kind in ("conv",) if number == 0 else ("depthwise", "pointwise"):
            scope = "MobilenetV1/Conv2d_0" if number == 0 else f"MobilenetV1/Conv2d_{number}_{kind}"
            kernel = arrays[f"{scope}/{'depthwise_weights' if kind == 'depthwise' else 'weights'}"]
            axes = (2, 3, 0, 1) if kind == "depthwise" else (3, 2, 0, 1)
            state[f"{kind}_{number}.0.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(axes)))
            for ours, theirs in (
                ("weight", "gamma"),
                ("bias", "beta"),
                ("running_mean", "moving_mean"),
                ("running_var", "moving_variance"),
            ):
                state[f"{kind}_{number}.1.{ours}"] = torch.from_numpy(arrays[f"{scope}/BatchNorm/{theirs}"].copy())
            state[f"{kind}_{number}.1.num_batches_tracked"] = torch.tensor(0)
    head = arrays["MobilenetV1/Logits/Conv2d_1c_1x1/weights"][0, 0].T[1:]
    bias = arrays["MobilenetV1/Logits/Conv2d_1c_1x1/biases"][1:]
    return state, torch.from_numpy(head.copy()), torch.from_numpy(bias.copy())
