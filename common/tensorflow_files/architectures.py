"""DGL's and GRCAM's classifiers as tables, which their TensorFlow and PyTorch forms are both built from.

vgg          VGG16 to conv5_3, a 3 x 3 convolution `add`; maps of 14 x 14
resnet50     tensorpack's ResNet50, its last two stages without stride; maps of 28 x 28
resnet50se   the same with squeeze-and-excitation
inceptionv3  SPG's InceptionV3 to Mixed_6e, which keeps its size, two 3 x 3 convolutions; maps of 28 x 28
mobilenetv1  TF-Slim's MobileNetV1 without its last stride, an extension that a CPU can train; maps of 14 x 14
"""

from collections.abc import Sequence

ARCHITECTURES = ("vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1")

RESNET_BLOCKS = (3, 4, 6, 3)
RESNET_STRIDES = (1, 2, 1, 1)
"""tensorpack's network has 1, 2, 2, 2."""
VGG_LAYERS = (
    "conv1_1 64", "conv1_2 64", "pool1", "conv2_1 128", "conv2_2 128", "pool2", "conv3_1 256", "conv3_2 256",
    "conv3_3 256", "pool3", "conv4_1 512", "conv4_2 512", "conv4_3 512", "pool4", "conv5_1 512", "conv5_2 512",
    "conv5_3 512", "add 1024",
)  # fmt: skip


def _mixed_5(fourth: int, names: Sequence[str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5")) -> list[list[str]]:
    return [
        ["Conv2d_0a_1x1 64 1x1"],
        [f"{names[0]} 48 1x1", f"{names[1]} 64 5x5"],
        ["Conv2d_0a_1x1 64 1x1", "Conv2d_0b_3x3 96 3x3", "Conv2d_0c_3x3 96 3x3"],
        ["average", f"Conv2d_0b_1x1 {fourth} 1x1"],
    ]


def _mixed_6(width: int) -> list[list[str]]:
    return [
        ["Conv2d_0a_1x1 192 1x1"],
        [f"Conv2d_0a_1x1 {width} 1x1", f"Conv2d_0b_1x7 {width} 1x7", "Conv2d_0c_7x1 192 7x1"],
        [
            f"Conv2d_0a_1x1 {width} 1x1", f"Conv2d_0b_7x1 {width} 7x1", f"Conv2d_0c_1x7 {width} 1x7",
            f"Conv2d_0d_7x1 {width} 7x1", "Conv2d_0e_1x7 192 1x7",
        ],
        ["average", "Conv2d_0b_1x1 192 1x1"],
    ]  # fmt: skip


INCEPTION_STEM = (
    "Conv2d_1a_3x3 32 3x3 2", "Conv2d_2a_3x3 32 3x3", "Conv2d_2b_3x3 64 3x3", "MaxPool_3a_3x3",
    "Conv2d_3b_1x1 80 1x1", "Conv2d_4a_3x3 192 3x3", "MaxPool_5a_3x3",
)  # fmt: skip
INCEPTION_BLOCKS = {
    "Mixed_5b": _mixed_5(32),
    "Mixed_5c": _mixed_5(64, ("Conv2d_0b_1x1", "Conv_1_0c_5x5")),
    "Mixed_5d": _mixed_5(64),
    "Mixed_6a": [
        ["Conv2d_1a_1x1 384 3x3"],
        ["Conv2d_0a_1x1 64 1x1", "Conv2d_0b_3x3 96 3x3", "Conv2d_1a_1x1 96 3x3"],
        ["max"],
    ],
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
}
"""Branches; a convolution is its name, filters, kernel (height x width), stride. Names are TF-Slim's, oddities too."""

LAYERS: dict[str, tuple[str, ...]] = {
    "vgg": tuple(layer.split()[0] for layer in reversed(VGG_LAYERS)),
    "resnet50": tuple(
        f"group{group}/block{block}"
        for group, first in ((3, 0), (2, 0), (1, 1))
        for block in reversed(range(first, RESNET_BLOCKS[group]))
    ),
    "inceptionv3": (
        "add1", "add2", "Mixed_6e", "Mixed_6d", "Mixed_6c", "Mixed_6b", "Mixed_6e_branch_0", "Mixed_6e_branch_1",
        "Mixed_6e_branch_2", "Mixed_6e_branch_3", "Mixed_6a", "Mixed_5d", "Mixed_5c", "Mixed_5b", "MaxPool_5a_3x3",
        "Conv2d_4a_3x3", "Conv2d_3b_1x1", "MaxPool_3a_3x3", "Conv2d_2b_3x3", "Conv2d_2a_3x3", "Conv2d_1a_3x3",
    ),
    "mobilenetv1": (*(f"Conv2d_{number}_pointwise" for number in range(13, 0, -1)), "Conv2d_0"),
}  # fmt: skip
"""The layers that `--clayer` counts, from the last map down; 2 is the release's default. The four branches of Mixed_6e
are offered by the release and missing in its network; here they are layers like the others."""
LAYERS["resnet50se"] = LAYERS["resnet50"]
