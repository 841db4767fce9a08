"""CAM (Zhou et al., CVPR 2016, equation 2): M(h, w) = sum over channels of w_c S(h, w).

w_c are the class's weights in the linear layer behind global average pooling. There D = w_c / (H W) at every position,
so that M = H W sum over channels of D S, whatever the linear layer is called; no bias enters. A layer norm between the
two is taken as `norms` says.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.maps.tapping import differentiable, hooked
from common.system.errors import UserError

CONSTANT = 1e-3
"""Greatest variation over positions of the gradient of a class's score, in its greatest value; 16-bit floats have half
of that."""
SAME = 0.02
"""Greatest difference between the directions of two gradients that are one but for rounding to 16-bit floats."""


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


def need_linear(model: nn.Module, images: Tensor, name: str, scores: Callable[[Any], Tensor]) -> None:
    """Refuse a network whose class scores are not a linear function of a layer's mean, up to a factor for each image.

    Such a function's gradient is the same whatever the layer gives: D of the first image is compared with D where the
    layer's values stand in reverse order, with another sign, and far from zero.

    Raises:
        UserError: the gradients differ in direction.
    """
    best, here = _direction(model, images[:1], name, scores, None, Tensor.clone)
    _, there = _direction(model, images[:1], name, scores, best, _reversed)
    if not bool((here - there).abs().amax() <= SAME * here.abs().amax()):
        raise UserError(
            f"between {name} and the scores there is more than averaging and one linear layer, of which CAM is not "
            "defined", do="take grad-cam or dgl",
        )  # fmt: skip


def _direction(
    model: nn.Module, images: Tensor, name: str, scores: Callable[[Any], Tensor], best: int | None,
    change: Callable[[Tensor], Tensor],
) -> tuple[int, Tensor]:  # fmt: skip
    """A class, by default the best, and the gradient of its score by a layer's changed output, of norm 1."""
    kept: list[Tensor] = []

    def replace(output: Tensor) -> Tensor:
        kept.append(change(output.detach().contiguous()).requires_grad_())
        return kept[-1].clone()

    with differentiable(model, images) as given:
        with hooked(model, {name: replace}):
            (row,) = scores(model(given))
        best = int(row.argmax()) if best is None else best
        (gradient,) = torch.autograd.grad(row[best], kept)
    return best, gradient.float() / gradient.float().norm().clamp(min=1e-30)


def _reversed(output: Tensor) -> Tensor:
    far = 100 if output.dtype == torch.float16 else 10_000  # whose greatest number is 65,504
    return -far * output.flatten(1).flip(1).view_as(output) / output.abs().amax().clamp(min=1e-6)
