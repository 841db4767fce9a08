"""Layer norms behind global average pooling, which CAM goes through as if their deviation were a constant.

Of a norm with scale g and shift b behind the mean f of a map F, the score is sum_k w_k (g_k (f_k - mean(f)) / s + b_k):
the mean over positions of sum_k (w_k g_k - mean(w g)) F_k / s, up to a constant. The deviation s is one number an image
and so left to the stretching of the map; its derivative, by which the map's mean would be zero, is none of CAM's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Norm = nn.LayerNorm | nn.GroupNorm


def layer_norms(model: nn.Module) -> list[Norm]:
    """Norms over the channels: layer norms, and group norms of one group."""
    return [
        module for module in model.modules()
        if isinstance(module, nn.LayerNorm) or (isinstance(module, nn.GroupNorm) and module.num_groups == 1)
    ]  # fmt: skip


@contextmanager
def constant_deviations(norms: Sequence[Norm]) -> Iterator[None]:
    """Leave the outputs of norms as they are, and take their deviations for constants in gradients."""
    handles = [norm.register_forward_hook(_hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(norm: Norm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    (given, *_) = inputs
    if not given.requires_grad:
        return None
    dims, weight = _over(norm, given)
    centred = given - given.mean(dim=dims, keepdim=True)
    deviation = given.detach().var(dim=dims, unbiased=False, keepdim=True).add(norm.eps).sqrt()
    linear = centred / deviation if weight is None else centred / deviation * weight
    return output.detach() + (linear - linear.detach())


def _over(norm: Norm, given: Tensor) -> tuple[tuple[int, ...], Tensor | None]:
    """Dimensions that a norm is over, and its scale in the shape of what it is given."""
    weight: Tensor | None = norm.weight  # None without affine parameters, which torch's types leave out
    shape = getattr(norm, "normalized_shape", None)
    if shape is not None and tuple(given.shape[-len(shape) :]) == tuple(shape):
        return tuple(range(-len(shape), 0)), weight
    dims = (1,) if shape is not None else tuple(range(1, given.ndim))  # a layer norm of maps, and a group norm
    return dims, None if weight is None else weight.view(-1, *[1] * (given.ndim - 2))
