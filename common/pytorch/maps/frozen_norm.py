"""Batch norm with frozen statistics, whose gradient by its input is one product with a constant.

PyTorch's own backward pass through it goes over the data several times; on a processor that is a fifth of all that maps
of every layer cost.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode


class FrozenNorm(TorchFunctionMode):
    """Batch norm in evaluation, by whatever module, while this lasts: PyTorch's values, gradients by its input alone.

    A call in training, or whose weights want gradients, is PyTorch's own.
    """

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Hand every call on, batch norm's to `_Scaled` where that is the same."""
        kwargs = kwargs or {}
        if func is F.batch_norm and (told := _told(*args, **kwargs)) is not None:
            return _Scaled.apply(*told)
        return func(*args, **kwargs)


def _told(
    values: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> tuple | None:  # fmt: skip
    """The arguments of `_Scaled`; None for a call that is not what it computes."""
    others = [other for other in (mean, variance, weight, bias) if other is not None]
    if training or mean is None or variance is None or not values.requires_grad:
        return None
    if any(other.requires_grad for other in others):
        return None
    return values, mean, variance, weight, bias, eps


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, values: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None,
        eps: float,
    ) -> Tensor:  # fmt: skip
        scale = (variance + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        ctx.scale = scale.reshape(1, -1, *[1] * (values.ndim - 2))  # type: ignore[attr-defined]
        return F.batch_norm(values, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return (gradient * ctx.scale).to(gradient.dtype), None, None, None, None, None  # type: ignore[attr-defined]
