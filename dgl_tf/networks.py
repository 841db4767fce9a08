"""The five classifiers of DGL, layer by layer, under the released checkpoints' variable names.

Each function takes `layers`, which makes variables and keeps taps; the normalized images `values`, in the data format
of `layers`; the number of classes, and the linear layer's scope `classifier`. It returns the logits (N, classes) before
the softmax and the linear layer's weights (C, classes). `dgl_tf.registry` builds them by name.

    vgg          VGG16 to conv5_3, a 3 x 3 convolution `add`; maps of 14 x 14
    resnet50     tensorpack's ResNet50, its last two stages without stride; maps of 28 x 28
    resnet50se   the same with squeeze-and-excitation
    inceptionv3  SPG's InceptionV3 to Mixed_6e, which keeps its size, two 3 x 3 convolutions; maps of 28 x 28
    mobilenetv1  TF-Slim's MobileNetV1 without its last stride, an extension that a CPU can train; maps of 14 x 14
"""

from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.tensorflow_files.architectures import (
    INCEPTION_BLOCKS,
    INCEPTION_STEM,
    RESNET_BLOCKS,
    RESNET_STRIDES,
    VGG_LAYERS,
)
from dgl_tf.layers import Layers

MOBILENET_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 1), (1024, 1))
"""Channels and stride; published with stride 2 in the last but one."""


def _scaled(scale: float, mode: str, distribution: str = "truncated_normal"):
    return tf.variance_scaling_initializer(scale, mode, distribution)


def vgg(layers: Layers, values: tf.Tensor, classes: int, classifier: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Build VGG16 to conv5_3 and a 3 x 3 convolution `add`, and return logits and head; see `dgl_tf.networks`."""
    for layer in VGG_LAYERS:
        name, *filters = layer.split()
        if filters:
            count = int(filters[0])
            values = layers.convolution(values, f"{name}/W", count, (3, 3), 1, _scaled(2.0, "fan_in"))
            values = tf.nn.relu(layers.bias(values, f"{name}/b", count))
        else:
            values = layers.max_pool(values, 2, 2, "VALID")
        layers.tap(name, values)
    return layers.linear(layers.mean(values), classifier, classes)


def resnet(
    layers: Layers, values: tf.Tensor, classes: int, classifier: str, squeeze: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Build ResNet50, with or without squeeze-and-excitation, and return logits and head; see `dgl_tf.networks`."""
    values = layers.tap("conv0", tf.nn.relu(_resnet_unit(layers, values, "conv0", 64, 7, 2)))
    values = layers.tap("pool0", layers.max_pool(values, 3, 2))
    for group, blocks in enumerate(RESNET_BLOCKS):
        for block in range(blocks):
            stride = RESNET_STRIDES[group] if block == 0 else 1
            values = _bottleneck(layers, values, f"group{group}/block{block}", 64 * 2**group, stride, squeeze)
    return layers.linear(layers.mean(values), classifier, classes)


def _bottleneck(layers: Layers, values: tf.Tensor, scope: str, width: int, stride: int, squeeze: bool) -> tf.Tensor:
    shortcut = values
    if layers.channels(values) != 4 * width:
        shortcut = _resnet_unit(layers, values, f"{scope}/convshortcut", 4 * width, 1, stride)
    values = layers.tap(f"{scope}_conv1", tf.nn.relu(_resnet_unit(layers, values, f"{scope}/conv1", width, 1, 1)))
    values = layers.tap(f"{scope}_conv2", tf.nn.relu(_resnet_unit(layers, values, f"{scope}/conv2", width, 3, stride)))
    values = layers.tap(f"{scope}_conv3", _resnet_unit(layers, values, f"{scope}/conv3", 4 * width, 1, 1, gamma=0.0))
    if squeeze:
        values = values * _excitation(layers, values, scope, width)
    return layers.tap(scope, tf.nn.relu(values + shortcut))


def _excitation(layers: Layers, values: tf.Tensor, scope: str, width: int) -> tf.Tensor:
    untruncated = _scaled(2.0, "fan_in", "untruncated_normal")
    squeezed, _ = layers.linear(layers.mean(values), f"{scope}/fc1", width // 4, untruncated)
    excited, _ = layers.linear(tf.nn.relu(squeezed), f"{scope}/fc2", 4 * width, untruncated)
    return tf.expand_dims(tf.expand_dims(tf.sigmoid(excited), layers.space[0]), layers.space[1])


def _resnet_unit(
    layers: Layers, values: tf.Tensor, scope: str, filters: int, kernel: int, stride: int, gamma: float = 1.0
) -> tf.Tensor:
    values = layers.convolution(values, f"{scope}/W", filters, (kernel, kernel), stride, _scaled(2.0, "fan_out"))
    return layers.batch_norm(values, f"{scope}/bn", ("mean/EMA", "variance/EMA"), 1e-5, 0.9, gamma)


def inception(
    layers: Layers, values: tf.Tensor, classes: int, classifier: str, head_batch_norm: bool, dropout: Callable
) -> tuple[tf.Tensor, tf.Tensor]:
    """Build InceptionV3 to Mixed_6e with a head of its own, and return logits and head; see `dgl_tf.networks`.

    Args:
        layers, values, classes, classifier: as everywhere here.
        head_batch_norm: `add1` and `add2` have batch norm instead of biases, as GRCAM's.
        dropout: applied before `add2`, `add1` and the linear layer, in training.
    """
    for layer in INCEPTION_STEM:
        name = layer.split()[0]
        values = layers.max_pool(values, 3, 2) if name.startswith("Max") else _slim_unit(layers, values, "", layer)
        layers.tap(name, values)
    for block, branches in INCEPTION_BLOCKS.items():
        ends = [_branch(layers, values, f"{block}/Branch_{number}", branch) for number, branch in enumerate(branches)]
        if block == "Mixed_6e":
            for number, end in enumerate(ends):
                layers.tap(f"{block}_branch_{number}", end)
        values = layers.tap(block, layers.concatenated(ends))
    for name in ("add2", "add1"):
        values = dropout(values) if layers.training else values
        values = layers.tap(name, _inception_head(layers, values, name, head_batch_norm))
    pooled = tf.reduce_mean(values, layers.space, keepdims=True)
    pooled = dropout(pooled) if layers.training else pooled
    pooled = tf.reshape(pooled, [-1, layers.channels(values)])
    return layers.pointwise(pooled, classifier, classes, tf.glorot_uniform_initializer())


def _branch(layers: Layers, values: tf.Tensor, scope: str, branch: Sequence[str]) -> tf.Tensor:
    for layer in branch:
        if layer == "average":
            values = layers.average_pool(values)
        elif layer == "max":
            values = layers.max_pool(values, 3, 1)
        else:
            values = _slim_unit(layers, values, f"{scope}/", layer)
    return values


def _slim_unit(layers: Layers, values: tf.Tensor, scope: str, layer: str) -> tf.Tensor:
    """Convolution, batch norm without gamma, ReLU."""
    name, filters, kernel, *stride = layer.split()
    scope = f"InceptionV3/{scope}{name}"
    height, width = map(int, kernel.split("x"))
    # TF-Slim's variance_scaling_initializer: truncated normal of variance 1.3 * 2 / fan_in before the truncation.
    initializer = _slim_initializer(height * width * layers.channels(values))
    values = layers.convolution(
        values, f"{scope}/weights", int(filters), (height, width), int(stride[0]) if stride else 1, initializer
    )
    values = layers.batch_norm(
        values, f"{scope}/BatchNorm", ("moving_mean", "moving_variance"), 1e-3, 0.999, gamma=None
    )
    return tf.nn.relu(values)


def _slim_initializer(fan_in: int):
    return tf.truncated_normal_initializer(stddev=(1.3 * 2.0 / fan_in) ** 0.5)


def _inception_head(layers: Layers, values: tf.Tensor, name: str, batch_norm: bool) -> tf.Tensor:
    if batch_norm:
        return _slim_unit(layers, values, "Logits/", f"{name} 1024 3x3")
    scope = f"InceptionV3/Logits/{name}"
    values = layers.convolution(values, f"{scope}/weights", 1024, (3, 3), 1, tf.glorot_uniform_initializer())
    return tf.nn.relu(layers.bias(values, f"{scope}/biases", 1024))


def mobilenet(layers: Layers, values: tf.Tensor, classes: int, classifier: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Build TF-Slim's MobileNetV1 (SAME padding, ReLU6, epsilon of 1e-3), and return logits and head; see
    `dgl_tf.networks`.
    """
    values = _between_minus_one_and_one(values, layers.channels_axis)
    values = layers.tap("Conv2d_0", _mobilenet_unit(layers, values, "Conv2d_0", 32, 3, 2))
    for number, (filters, stride) in enumerate(MOBILENET_BLOCKS, start=1):
        name = f"Conv2d_{number}"
        values = layers.tap(f"{name}_depthwise", _mobilenet_unit(layers, values, f"{name}_depthwise", 0, 3, stride))
        values = layers.tap(f"{name}_pointwise", _mobilenet_unit(layers, values, f"{name}_pointwise", filters, 1, 1))
    return layers.pointwise(layers.mean(values), classifier, classes, tf.truncated_normal_initializer(stddev=0.01))


def _between_minus_one_and_one(values: tf.Tensor, channels_axis: int) -> tf.Tensor:
    """Turn the common input, BGR by mean and deviation, into TF-Slim's, RGB in [-1, 1]."""
    shape = [1, 1, 1, 1]
    shape[channels_axis] = 3
    scale = tf.reshape(tf.constant([2 * value for value in IMAGENET_STD], tf.float32), shape)
    shift = tf.reshape(tf.constant([2 * value - 1 for value in IMAGENET_MEAN], tf.float32), shape)
    return tf.reverse(values, [channels_axis]) * scale + shift


def _mobilenet_unit(layers: Layers, values: tf.Tensor, name: str, filters: int, kernel: int, stride: int) -> tf.Tensor:
    """Convolution, depthwise where `filters` is 0, batch norm, ReLU6."""
    scope, initializer = f"MobilenetV1/{name}", tf.truncated_normal_initializer(stddev=0.09)
    if filters:
        values = layers.convolution(values, f"{scope}/weights", filters, (kernel, kernel), stride, initializer)
    else:
        shape = [kernel, kernel, layers.channels(values), 1]
        depthwise = layers.variable(f"{scope}/depthwise_weights", shape, initializer)
        values = tf.nn.depthwise_conv2d(
            values, depthwise, layers.strides(stride), "SAME", data_format=layers.data_format
        )
    # TF-Slim's decay, 0.9997, would leave ImageNet's statistics in place after a short fine-tuning.
    values = layers.batch_norm(values, f"{scope}/BatchNorm", ("moving_mean", "moving_variance"), 1e-3, 0.9)
    return tf.nn.relu6(values)
