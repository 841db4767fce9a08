"""Step 1's networks with the weights that their variables' names determine, as the recorded numbers have them."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from dgl_tf import registry
from tests import fill

KINDS = {"variance/EMA": "var", "moving_variance": "var", "mean/EMA": "mean", "moving_mean": "mean", "gamma": "scale",
         "beta": "shift"}  # fmt: skip
SETTINGS = {"vgg": (0, 2.0), "resnet50se": (0, 1.6), "inceptionv3": (0, 2.5)}
"""Seed and gain."""


def value(name: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    """A variable's."""
    kind = next((kind for ending, kind in KINDS.items() if name.endswith(ending)), None)
    if kind is None:
        kind = "kernel" if len(shape) > 1 else "bias"
    return fill.values(name, shape, kind, seed, gain, int(np.prod(shape[:-1])) if len(shape) > 1 else 1)


@lru_cache(maxsize=1)
def values(mode: str, **options) -> dict[str, np.ndarray]:
    """All variables of a network by name; `options` go to `registry.build`."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, 224, 224, 3])
        network = registry.build(mode, images, head_batch_norm=mode == "inceptionv3", **options)
        shapes = {name: tuple(variable.shape.as_list()) for name, variable in network.variables.items()}
    seed, gain = SETTINGS.get(mode, (0, 2.0))
    return {name: value(name, shape, seed, gain) for name, shape in shapes.items()}


def checkpoint(folder: Path, mode: str, **options) -> Path:
    """The same as tensorpack's .npz."""
    np.savez(folder / f"{mode}.npz", **values(mode, **options))
    return folder / f"{mode}.npz"
