"""GRCAM's refined map (Hui et al., Pattern Recognition 2022), of the last feature map F.

    M = sigmoid(F) / |sigmoid(F)| - G / |G|          norms over the whole of F, one image at a time
    A = sum over channels of w_y (F M)               the refined map

F enters the scores by its mean alone, so that G = W (p - alpha y) / (H W) and D = w_y / (H W) are the same at every
position: the backward passes that give them stop at F and cost next to nothing.
"""

from torch import Tensor

from common.pytorch.maps.cam import need_pooled
from common.pytorch.maps.dual_gradients import inverse_norm


def refined(features: Tensor, gradient: Tensor, selection: Tensor) -> Tensor:
    """A (N, h, w), not stretched, from F, G and D (N, C, h, w) of the layer that global average pooling takes.

    Raises:
        UserError: there is more than global average pooling and one linear layer behind this layer.
    """
    need_pooled(selection)
    gate = features.sigmoid()
    mask = gate * inverse_norm(gate)[:, None] - gradient * inverse_norm(gradient)[:, None]
    return (selection * features * mask).sum(dim=1) * features[0, 0].numel()
