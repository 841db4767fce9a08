"""Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2): M = ReLU(sum over channels of mean(D) S).

D is the gradient of the class's score, before the softmax, and its mean is taken over positions.
"""

from torch import Tensor


def grad_cam(features: Tensor, selection: Tensor) -> Tensor:
    """(N, h, w), 0 or above, from S and D (N, C, h, w) of any layer."""
    weights = selection.mean(dim=(2, 3), keepdim=True)
    return (features * weights).sum(dim=1).relu()
