"""DGL's classifiers by name: a backbone, global average pooling, one linear layer. Every layer can be tapped.

`build` makes a network of `dgl_tf.networks` in the current graph; `dgl_tf.weights` and `load` fill it. Images come in
as the release feeds them, BGR with ImageNet's mean and deviation (`normalized`). The methods' maps are made elsewhere,
from `Network.taps` and `Network.logits`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.datasets import classes
from common.pictures.inputs import IMAGENET_MEAN, IMAGENET_STD
from common.system.errors import UserError
from common.tensorflow_files import converted
from common.tensorflow_files.architectures import ARCHITECTURES, LAYERS
from dgl_tf import networks, records, weights
from dgl_tf.layers import Layers
from dgl_tf.sessions import tf

SHORTCUT = "_shortcut"
"""Ending of the release's names of the ResNets' blocks, `group3/block0_shortcut`, which may be left out here."""


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
        layer = layer if layer in self.taps else layer.removesuffix(SHORTCUT)
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
        logits, head = networks.vgg(layers, values, num_classes, classifier)
    elif arch in ("resnet50", "resnet50se"):
        logits, head = networks.resnet(layers, values, num_classes, classifier, squeeze=arch == "resnet50se")
    elif arch == "inceptionv3":
        dropout = dropout or (lambda inputs: tf.nn.dropout(inputs, rate=0.5))
        logits, head = networks.inception(layers, values, num_classes, classifier, head_batch_norm, dropout)
    else:
        logits, head = networks.mobilenet(layers, values, num_classes, classifier)
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


def open_network(load: str, mode: str) -> tuple[weights.Checkpoint, str, tuple[str, ...] | None]:
    """Open a checkpoint, and say its architecture and its classes' names, which are None where no record tells them.

    Args:
        load: a training's folder; or a TensorFlow checkpoint, .npz or .safetensors; or imagenet:mobilenetv1.
        mode: the architecture, or `auto`.
    """
    path = Path(load)
    record = records.read(path) if load != weights.IMAGENET and path.exists() else None
    if load != weights.IMAGENET and path.is_dir() and (path / records.FINAL).is_file():
        load = str(path / records.FINAL)
    checkpoint = weights.open_checkpoint(load)
    arch = "mobilenetv1" if load == weights.IMAGENET else mode
    if record is not None:
        if mode not in ("auto", record.arch):
            raise UserError(f"--mode {mode}", where=path, expected=f"{record.arch}, as the training's record says")
        arch = record.arch
    if arch == "auto":
        raise UserError("no record says which network this is", where=path, do="say --mode")
    names = converted.read(load).class_names if record is None else classes.names_of(record.to_json())
    return checkpoint, arch, names


def released_layer(arch: str, layer: str) -> str:
    """The release's name of a layer in `LAYERS`, after which its demo calls a picture."""
    return f"{layer}{SHORTCUT}" if arch.startswith("resnet") else layer


def layer_names(arch: str, layers: Sequence[str]) -> list[str]:
    """Turn layers by number or name, `all` among them, into names.

    Raises:
        UserError: the architecture has no such layer, or one is named twice.
    """
    known = LAYERS[arch]
    names: list[str] = []
    for layer in layers:
        if layer == "all":
            names += known
        elif layer.isdecimal() and int(layer) < len(known):
            names.append(known[int(layer)])
        elif layer.removesuffix(SHORTCUT) in known:
            names.append(layer.removesuffix(SHORTCUT))
        else:
            numbered = ", ".join(f"{number} {name}" for number, name in enumerate(known))
            raise UserError(f"{arch} has no layer {layer!r}", expected=f"all, or of {numbered}")
    if len(set(names)) != len(names):
        raise UserError(f"--clayer {' '.join(layers)} names a layer twice", do="name each once")
    return names
