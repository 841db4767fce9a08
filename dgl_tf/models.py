"""DGL's classifiers in TensorFlow: a backbone, global average pooling, one linear layer. Every layer can be tapped.

`build` makes the network in the current graph under the released checkpoints' variable names; `dgl_tf.weights` and
`load` fill them. Images come in as the release feeds them, BGR with ImageNet's mean and deviation (`normalized`).
The methods' maps are made elsewhere, from `Network.taps` and `Network.logits`.

    vgg          VGG16 to conv5_3, a 3 x 3 convolution `add`; maps of 14 x 14
    resnet50     tensorpack's ResNet50, its last two stages without stride; maps of 28 x 28
    resnet50se   the same with squeeze-and-excitation
    inceptionv3  SPG's InceptionV3 to Mixed_6e, which keeps its size, two 3 x 3 convolutions; maps of 28 x 28
    mobilenetv1  TF-Slim's MobileNetV1 without its last stride, an extension that a CPU can train; maps of 14 x 14
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorflow.compat.v1 as tf

from common.pictures.images import IMAGENET_MEAN, IMAGENET_STD
from dgl_tf import preprocessing, weights
from dgl_tf.layers import Layers

# GRCAM, which uses these classifiers, takes all of DGL's that it needs from here.
open_checkpoint = weights.open_checkpoint
read_image = preprocessing.read_image

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()

ARCHITECTURES = ("vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1")

RESNET_BLOCKS = (3, 4, 6, 3)
RESNET_STRIDES = (1, 2, 1, 1)
"""tensorpack's network has 1, 2, 2, 2."""
VGG_LAYERS = (
    "conv1_1 64", "conv1_2 64", "pool1", "conv2_1 128", "conv2_2 128", "pool2", "conv3_1 256", "conv3_2 256",
    "conv3_3 256", "pool3", "conv4_1 512", "conv4_2 512", "conv4_3 512", "pool4", "conv5_1 512", "conv5_2 512",
    "conv5_3 512", "add 1024",
)  # fmt: skip
MOBILENET_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 1), (1024, 1))
"""Channels and stride; published with stride 2 in the last but one."""

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
"""The taps that `--clayer` counts, from the last map down; 2 is the release's default. The four branches of Mixed_6e
are offered by the release and missing in its network; here they are taps like the others."""
LAYERS["resnet50se"] = LAYERS["resnet50"]


@dataclass(frozen=True)
class Network:
    """A classifier in the current graph.

    Attributes:
        arch: one of `ARCHITECTURES`.
        logits: (N, classes), before the softmax.
        taps: by name, in the order of computation, (N, H, W, C), after their ReLU; see `LAYERS`.
        last: the tap that the average pooling takes, on which CAM is defined.
        head: (C, classes), the linear layer's weights.
        classifier: the linear layer's scope.
        variables: all of the network's, by name without `:0`, running statistics among them.
    """

    arch: str
    logits: tf.Tensor
    taps: dict[str, tf.Tensor]
    last: str
    head: tf.Tensor
    classifier: str
    variables: dict[str, tf.Variable]

    @property
    def features(self) -> tf.Tensor:
        """The last map, (N, H, W, C)."""
        return self.taps[self.last]

    def tap(self, layer: str | int) -> tuple[str, tf.Tensor]:
        """A tap by its name, or by its number in `LAYERS`, with its name.

        Raises:
            ValueError: there is none.
        """
        names = LAYERS[self.arch]
        if isinstance(layer, int) or layer.isdecimal():
            if int(layer) >= len(names):
                raise ValueError(f"{self.arch} has no layer {layer}, expected 0 to {len(names) - 1}")
            layer = names[int(layer)]
        if layer not in self.taps:
            raise ValueError(f"{self.arch} has no layer {layer!r}, expected one of {', '.join(names)}")
        return layer, self.taps[layer]


def classifier_name(arch: str, dataset: str = "imagenet", num_classes: int = 1000) -> str:
    """The scope of the linear layer as the release calls it.

    Args:
        arch: one of `ARCHITECTURES`.
        dataset: `cub` gives the names of the release's CUB networks.
        num_classes: part of Inception's name, 1000 there unless `dataset` is `cub`.
    """
    if arch == "inceptionv3":
        return f"InceptionV3/Logits/Conv2d_1c_1x1_{200 if dataset == 'cub' else 1000}"
    if arch == "mobilenetv1":
        return "MobilenetV1/Logits/Conv2d_1c_1x1"
    cub = "linear_cub" if arch == "vgg" else "linearcub"
    return cub if dataset == "cub" else "linear"


def build(
    arch: str,
    images: tf.Tensor,
    num_classes: int = 1000,
    training: bool = False,
    data_format: str = "NHWC",
    classifier: str | None = None,
    head_batch_norm: bool = False,
    update_statistics: bool = True,
    dropout: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Network:
    """Make a network in the current graph; a second call in one scope of reuse shares its variables.

    Args:
        arch: one of `ARCHITECTURES`.
        images: (N, H, W, 3) float32, BGR, as `normalized` gives them.
        num_classes: of the linear layer.
        training: batch norm by the batch's own statistics, whose moving averages are updated by operations in the
            collection UPDATE_OPS, and Inception's three dropouts.
        data_format: NHWC, or NCHW, which a GPU computes faster and a CPU not at all; the variables are the same.
        classifier: the linear layer's scope; by default `classifier_name(arch)`.
        head_batch_norm: GRCAM's Inception, whose `add1` and `add2` have batch norm instead of biases.
        update_statistics: False leaves the update operations out, for every tower but the first.
        dropout: replaces Inception's dropout (keep half, double), for tests; called in the order of computation.

    Raises:
        ValueError: an unknown architecture, or a head that the architecture has not.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}, expected one of {', '.join(ARCHITECTURES)}")
    if head_batch_norm and arch != "inceptionv3":
        raise ValueError(f"{arch} has no head with batch norm, inceptionv3 alone has")
    layers = Layers(training, data_format, update_statistics)
    classifier = classifier or classifier_name(arch)
    values = tf.transpose(images, [0, 3, 1, 2]) if data_format == "NCHW" else images
    if arch == "vgg":
        logits, head = _vgg(layers, values, num_classes, classifier)
    elif arch in ("resnet50", "resnet50se"):
        logits, head = _resnet(layers, values, num_classes, classifier, squeeze=arch == "resnet50se")
    elif arch == "inceptionv3":
        dropout = dropout or (lambda inputs: tf.nn.dropout(inputs, rate=0.5))
        logits, head = _inception(layers, values, num_classes, classifier, head_batch_norm, dropout)
    else:
        logits, head = _mobilenet(layers, values, num_classes, classifier)
    taps = layers.taps
    if data_format == "NCHW":
        taps = {name: tf.transpose(tap, [0, 2, 3, 1]) for name, tap in taps.items()}
    return Network(arch, logits, taps, LAYERS[arch][0], head, classifier, layers.variables)


def normalized(images: tf.Tensor) -> tf.Tensor:
    """(N, H, W, 3) BGR in [0, 255], any number type, to the network's input: minus the mean, by the deviation."""
    mean = tf.constant(IMAGENET_MEAN[::-1], tf.float32) * 255.0
    deviation = tf.constant(IMAGENET_STD[::-1], tf.float32) * 255.0
    return (tf.cast(images, tf.float32) - mean) / deviation


def build_for(checkpoint: "weights.Checkpoint", arch: str, images: tf.Tensor, **options) -> Network:
    """The network that a checkpoint holds: its class count, classifier's name and kind of head are read off it.

    Args:
        checkpoint: from `weights.open_checkpoint`.
        arch: one of `ARCHITECTURES`.
        images: as for `build`, which takes the other `options`.

    Raises:
        UserError: the checkpoint holds no classifier of this architecture.
    """
    head = checkpoint.head(arch)
    return build(arch, images, head.num_classes, classifier=head.classifier, head_batch_norm=head.batch_norm, **options)


def load(session: tf.Session, network: Network, checkpoint: "weights.Checkpoint | Path | str") -> None:
    """Fill every variable of a network from a checkpoint; see `weights.assign`.

    Raises:
        UserError: no such checkpoint, or variables that it doesn't have or has in another shape, by name.
    """
    if not isinstance(checkpoint, weights.Checkpoint):
        checkpoint = weights.open_checkpoint(checkpoint)
    weights.assign(session, network.variables, checkpoint)


def session(threads: int | None = None) -> tf.Session:
    """A session of the current graph that takes GPU memory as it needs it.

    Args:
        threads: of the CPU, for one operation and between operations; by default TensorFlow's choice.
    """
    return tf.Session(config=session_config(threads))


def session_config(threads: int | None = None, towers: int = 1) -> tf.ConfigProto:
    """How this project's sessions run: GPU memory as it is needed, and threads of their own where a number is given.

    Args:
        threads: of the CPU; by default TensorFlow's choice. Those within an operation are what the first session of
            the process asked for.
        towers: copies of the network in the graph. With several a single thread between operations may wait for ever
            for what another tower holds.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    if threads:
        # Else all sessions of a process share the threads between operations that the first one asked for.
        config.use_per_session_threads = True
        config.intra_op_parallelism_threads = threads
        config.inter_op_parallelism_threads = threads if towers == 1 else max(2 * towers, threads)
    return config


# ---------------------------------------------------------------------------------------------------------- networks


def _scaled(scale: float, mode: str, distribution: str = "truncated_normal"):
    return tf.variance_scaling_initializer(scale, mode, distribution)


def _vgg(layers: Layers, values: tf.Tensor, classes: int, classifier: str) -> tuple[tf.Tensor, tf.Tensor]:
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


def _resnet(
    layers: Layers, values: tf.Tensor, classes: int, classifier: str, squeeze: bool
) -> tuple[tf.Tensor, tf.Tensor]:
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
"""By branch; a convolution is its name, filters, kernel (height x width), stride. Names are TF-Slim's, oddities too."""


def _inception(
    layers: Layers, values: tf.Tensor, classes: int, classifier: str, head_batch_norm: bool, dropout: Callable
) -> tuple[tf.Tensor, tf.Tensor]:
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


def _mobilenet(layers: Layers, values: tf.Tensor, classes: int, classifier: str) -> tuple[tf.Tensor, tf.Tensor]:
    """TF-Slim's: SAME padding, ReLU6, batch norm with an epsilon of 1e-3, RGB in [-1, 1]."""
    values = _between_minus_one_and_one(values, layers.channels_axis)
    values = layers.tap("Conv2d_0", _mobilenet_unit(layers, values, "Conv2d_0", 32, 3, 2))
    for number, (filters, stride) in enumerate(MOBILENET_BLOCKS, start=1):
        name = f"Conv2d_{number}"
        values = layers.tap(f"{name}_depthwise", _mobilenet_unit(layers, values, f"{name}_depthwise", 0, 3, stride))
        values = layers.tap(f"{name}_pointwise", _mobilenet_unit(layers, values, f"{name}_pointwise", filters, 1, 1))
    return layers.pointwise(layers.mean(values), classifier, classes, tf.truncated_normal_initializer(stddev=0.01))


def _between_minus_one_and_one(values: tf.Tensor, channels_axis: int) -> tf.Tensor:
    """From the common input, BGR by mean and deviation, to TF-Slim's, RGB in [-1, 1]."""
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


@contextmanager
def new_graph():
    """A fresh graph as the default one, for a network and its session."""
    with tf.Graph().as_default() as graph:
        yield graph
