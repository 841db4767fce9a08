"""Dual-gradients localization: two gradients at a feature map S of any layer say where its class is.

    G = J^T (p - alpha y)           gradient of the cross-entropy with the label alpha y, as TensorFlow takes it
    A = S / |S| - G / |G|           class-aware enhanced map; norms over the whole map of one image
    D = J^T y                       pixel-level class selection: gradient of the class's logit, pixel by pixel
    M = sum over channels of D A    localization map

where J = dz / dS, p = softmax(z) and y the one-hot class (DGL, sections 3.2 and 3.3). At the last map M is CAM, up to
scale and a constant. Only what lies between the tap and the logits is gone through backwards, all images of a batch at
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

from common.measuring.extraction import min_max
from dgl_tf.registry import Network

TINY = 1e-12
"""Least squared norm that is divided by; a map below it is multiplied by a million, and not normalized."""
ALPHA = 10.0
GRADIENTS = ("released", "true")


@dataclass(frozen=True)
class Maps:
    """Tensors of one tap, for N images.

    Attributes:
        layer: the tap's name.
        enhanced: A (N, H, W, C).
        selection: D (N, H, W, C).
        gradient: G (N, H, W, C).
        localization: M (N, H, W), not stretched.
    """

    layer: str
    enhanced: tf.Tensor
    selection: tf.Tensor
    gradient: tf.Tensor
    localization: tf.Tensor


def best_classes(probabilities: tf.Tensor) -> tf.Tensor:
    """(N, K) probabilities to their best class as one-hot; several ones where several are equally best, as released."""
    highest = tf.reduce_max(probabilities, axis=1, keepdims=True)
    return tf.cast(tf.equal(probabilities, highest) & (probabilities > 0), tf.float32)


def chosen_or_best(classes: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Classes (N,) int32 as one-hot (N, K); where one is -1, that image's best class by its probabilities (N, K)."""
    best = best_classes(probabilities)
    one_hot = tf.one_hot(classes, int(probabilities.shape[1]))
    return tf.where(tf.broadcast_to(classes[:, None] >= 0, tf.shape(best)), one_hot, best)


def dual_gradients(
    network: Network,
    layers: Sequence[str | int],
    classes: tf.Tensor | None = None,
    alpha: float = ALPHA,
    gradient: str = "released",
) -> list[Maps]:
    """DGL's maps at any number of taps, in one pass backwards for each of the two gradients.

    Args:
        network: in inference mode.
        layers: the taps' names or numbers in `registry.LAYERS`.
        classes: one-hot (N, K) whose maps are wanted; by default each image's best.
        alpha: factor of the label.
        gradient: `released`: p - alpha y, what TensorFlow's kernel gives for labels that don't sum to one. `true`:
            the derivative of the same loss, alpha (p - y).

    Raises:
        ValueError: no such tap, or another gradient.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"unknown gradient {gradient!r}, expected one of {', '.join(GRADIENTS)}")
    names, taps = zip(*(network.tap(layer) for layer in layers), strict=True)
    probabilities = tf.nn.softmax(network.logits)
    label = best_classes(probabilities) if classes is None else classes
    delta = probabilities - alpha * label if gradient == "released" else alpha * (probabilities - label)
    # The label and p are what the gradients start from, not something to differentiate.
    gradients = tf.gradients(network.logits, taps, grad_ys=tf.stop_gradient(delta))
    selections = tf.gradients(network.logits, taps, grad_ys=tf.stop_gradient(label))
    maps = []
    for name, tap, class_gradient, selection in zip(names, taps, gradients, selections, strict=True):
        enhanced = unit_norm(tap) - unit_norm(class_gradient)
        maps.append(Maps(name, enhanced, selection, class_gradient, tf.reduce_sum(selection * enhanced, axis=3)))
    return maps


def unit_norm(values: tf.Tensor) -> tf.Tensor:
    """Each image's (H, W, C) by its L2 norm."""
    return values * tf.rsqrt(tf.maximum(tf.reduce_sum(values**2, axis=[1, 2, 3], keepdims=True), TINY))


def class_activation(network: Network, classes: tf.Tensor) -> tf.Tensor:
    """CAM (N, H, W) of one-hot classes (N, K): the class's weights times the last map, no bias."""
    weights = tf.matmul(classes, network.head, transpose_b=True)
    return tf.einsum("nhwc,nc->nhw", network.features, weights)


def grad_cam(network: Network, layer: str | int, classes: tf.Tensor) -> tf.Tensor:
    """Grad-CAM (N, H, W) at a tap (Selvaraju et al., ICCV 2017): ReLU of the tap weighted by its mean gradients."""
    _, tap = network.tap(layer)
    gradient = tf.gradients(network.logits, tap, grad_ys=tf.stop_gradient(classes))[0]
    weights = tf.reduce_mean(gradient, axis=[1, 2])
    return tf.nn.relu(tf.einsum("nhwc,nc->nhw", tap, weights))


def enlarged(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) to a localization map of `size` (width, height) in [0, 1]: stretched, then enlarged bilinearly."""
    return np.clip(cv2.resize(min_max(raw.astype(np.float32)), size, interpolation=cv2.INTER_LINEAR), 0, 1)
