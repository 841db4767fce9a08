"""CAM (Zhou et al., CVPR 2016, equation 2): M(h, w) = sum over channels of w_c S(h, w).

w_c are the class's weights in the linear layer behind global average pooling. There D = w_c / (H W) at every position,
so that M = H W sum over channels of D S, whatever the linear layer is called; no bias enters.
"""

import torch
from torch import Tensor

from common.system.errors import UserError

CONSTANT = 1e-3
"""Greatest variation over positions of the gradient of a class's score, in its greatest value; 16-bit floats have half
of that."""


def class_activation(features: Tensor, selection: Tensor) -> Tensor:
    """(N, h, w) from S and D (N, C, h, w) of the layer that global average pooling takes.

    Raises:
        UserError: there is more than global average pooling and one linear layer behind this layer.
    """
    need_pooled(selection)
    return (features * selection).sum(dim=1) * features[0, 0].numel()


def need_pooled(selection: Tensor) -> None:
    """Refuse a layer whose class scores are not a linear function of its mean, which D (N, C, h, w) shows.

    Raises:
        UserError: D differs between positions.
    """
    spread = (selection.amax(dim=(2, 3)) - selection.amin(dim=(2, 3))).amax()
    if not bool(spread <= CONSTANT * torch.clamp(selection.abs().amax(), min=1e-30)):
        raise UserError(
            "the scores are no linear function of this layer's mean", expected="the last map, which is averaged",
            do="take layer 0; where the network ends otherwise, take dgl or grad-cam",
        )  # fmt: skip
