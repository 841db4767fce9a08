"""`grcam.graph`'s equations once more, in numpy and any precision, step by step, for tests to compare with.

No command uses it.
"""

import numpy as np

from grcam.config import GRADIENTS, LABEL_FACTOR, TINY


def loss_gradient(
    scores: np.ndarray, labels: np.ndarray, kind: str = "released", factor: float = LABEL_FACTOR
) -> np.ndarray:
    """The gradient (N, K) of the loss, cross-entropy with `factor` times the one-hot label, by the scores.

    Args:
        scores: (N, K), before the softmax.
        labels: (N,) true classes.
        kind: `released`: softmax - factor * onehot, what TensorFlow's kernel gives for labels that don't sum to one
            (quirk Q1). `true`: the derivative, factor * (softmax - onehot).
        factor: of the label.

    Raises:
        ValueError: another kind.
    """
    if kind not in GRADIENTS:
        raise ValueError(f"unknown loss gradient {kind!r}, expected one of {', '.join(GRADIENTS)}")
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    target = np.zeros_like(scores)
    target[np.arange(len(labels)), labels] = 1
    return likely - factor * target if kind == "released" else factor * (likely - target)


def channel_gradient(weights: np.ndarray, delta: np.ndarray, positions: int) -> np.ndarray:
    """G (N, C), the loss's gradient by the feature map at any of its `positions`.

    Args:
        weights: (C, K) of the linear layer.
        delta: (N, K), the gradient by the scores.
        positions: H * W.
    """
    return delta @ weights.T / positions


def mask(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """M (N, H, W, C) = sigmoid(F) / |sigmoid(F)| - G / |G|.

    Args:
        features: F (N, H, W, C), after its ReLU.
        gradient: G (N, C).
    """
    positions = features.shape[1] * features.shape[2]
    gate = 1 / (1 + np.exp(-features))
    gate_norm = np.sqrt(np.maximum((gate**2).sum(axis=(1, 2, 3), keepdims=True), TINY))
    gradient_norm = np.sqrt(np.maximum(positions * (gradient**2).sum(axis=1, keepdims=True), TINY))
    return gate / gate_norm - (gradient / gradient_norm)[:, None, None]


def class_activation_map(features: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A (N, H, W) = sum over channels of the label's weights times the features (N, H, W, C); no bias."""
    return np.einsum("nhwc,cn->nhw", features, weights[:, labels])


def refined_map(
    features: np.ndarray, scores: np.ndarray, weights: np.ndarray, labels: np.ndarray, kind: str = "released"
) -> np.ndarray:
    """A (N, H, W), the class activation map of F M; arguments as above."""
    positions = features.shape[1] * features.shape[2]
    gradient = channel_gradient(weights, loss_gradient(scores, labels, kind), positions)
    return class_activation_map(features * mask(features, gradient), weights, labels)
