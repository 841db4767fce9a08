"""Dual-Gradients Localization (Tan et al., ACM MM 2020, sections 3.2 and 3.3), at a feature map S of any layer.

    A = S / |S| - G / |G|           class-aware enhanced map; norms over the whole map of one image
    M = sum over channels of D A    localization map, D = J^T y the pixel-level class selection

G = J^T (p - alpha y) is what TensorFlow takes for the gradient of the cross-entropy with the label alpha y, see
`evidence`. No ReLU, and nothing is averaged over positions. At the last map M is CAM, up to scale and a constant.
"""

from torch import Tensor

TINY = 1e-12
"""Least squared norm that is divided by."""


def dual_gradients(features: Tensor, gradient: Tensor, selection: Tensor) -> Tensor:
    """(N, h, w), not stretched, from S, G and D (N, C, h, w) of any layer."""
    # sum(D A) = sum(D S) / |S| - sum(D G) / |G|, so that A is never held.
    return _along(selection, features) - _along(selection, gradient)


def enhanced(features: Tensor, gradient: Tensor) -> Tensor:
    """A (N, C, h, w) from S and G."""
    return features * inverse_norm(features)[:, None] - gradient * inverse_norm(gradient)[:, None]


def _along(selection: Tensor, values: Tensor) -> Tensor:
    return (selection * values).sum(dim=1) * inverse_norm(values)


def inverse_norm(values: Tensor) -> Tensor:
    """1 / |values| of each image (N, C, h, w), as (N, 1, 1); where it would be more than a million, a million."""
    # torch.linalg.vector_norm adds one float32 after the other: of 1,600,000 equal ones, such as the gradient of a
    # mean, it is off by 3e-4.
    return values.square().sum(dim=(1, 2, 3)).clamp(min=TINY).rsqrt()[:, None, None]
