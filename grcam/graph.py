"""GRCAM's first gradient: the class activation map refined by the gradient of the loss, in closed form.

F is the last feature map (H, W, C), W the linear layer's weights (C, K) and z = mean(F) W + b the scores. Then

    delta = softmax(z) - 10 e_y                      what TensorFlow takes for the loss's gradient by z
    G     = W delta / (H W)                          its gradient by F: one vector, the same at every position
    M     = sigmoid(F) / |sigmoid(F)| - G / |G|      norms over the whole of F, one image at a time
    A     = sum over channels of W[:, y] (F M)       the refined map

No back-propagation is needed, since F enters the scores by its mean alone. It stands beside the network, so that a
map of H x W leaves the graph instead of its features.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from grcam.config import GRADIENTS, LABEL_FACTOR, TINY


class Maps(NamedTuple):
    """(N, H, W) each: `refined`, A of GRCAM; `plain`, the class activation map without the refinement."""

    refined: tf.Tensor
    plain: tf.Tensor


def maps(
    features: tf.Tensor,
    scores: tf.Tensor,
    weights: tf.Tensor,
    labels: tf.Tensor,
    kind: str = "released",
    factor: float = LABEL_FACTOR,
) -> Maps:
    """Localization maps of N images' labels, in closed form; the equations stand above.

    Args:
        features: F (N, H, W, C), after its ReLU.
        scores: z (N, K).
        weights: W (C, K).
        labels: (N,) int.
        kind: `released`: softmax - factor * onehot, what TensorFlow's kernel gives for labels that don't sum to one
            (quirk Q1). `true`: the derivative, factor * (softmax - onehot).
        factor: of the label.
    """
    if kind not in GRADIENTS:
        raise ValueError(f"unknown loss gradient {kind!r}, expected one of {', '.join(GRADIENTS)}")
    target = tf.one_hot(labels, tf.shape(scores)[1])
    likely = tf.nn.softmax(scores)
    delta = likely - factor * target if kind == "released" else factor * (likely - target)
    positions = tf.cast(tf.shape(features)[1] * tf.shape(features)[2], tf.float32)
    gradient = tf.matmul(delta, weights, transpose_b=True) / positions
    inverse = tf.rsqrt(tf.maximum(positions * tf.reduce_sum(gradient**2, axis=1, keepdims=True), TINY))
    mask = tf.nn.l2_normalize(tf.sigmoid(features), axis=[1, 2, 3], epsilon=TINY) - (gradient * inverse)[:, None, None]
    row = tf.gather(weights, labels, axis=1)
    return Maps(*(tf.einsum("nhwc,cn->nhw", values, row) for values in (features * mask, features)))
