"""The losses of the three stages; everything is computed in float32, under mixed precision too."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spol.models import enlarged

BACKGROUND, FOREGROUND, IGNORED = 0, 1, 2
"""Codes of a segmentation target's pixels."""


def pooled(maps: Tensor) -> Tensor:
    """Class scores (B, C): the mean of each class's map, after its ReLU."""
    return _wide(maps).mean(dim=(2, 3))


def two_branch_loss(deep_maps: Tensor, fused_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """CUB's cam loss, L = 1/2 [CE(s1, y) + CE(softmax(s1), s2)].

    The deep branch s1 learns the label; the fused branch s2 learns the deep one's probabilities, which are detached.
    """
    deep, fused = pooled(deep_maps), pooled(fused_maps)
    loss1 = F.cross_entropy(deep, labels)
    loss2 = F.cross_entropy(fused, deep.detach().softmax(dim=1))
    return {"loss": (loss1 + loss2) / 2, "loss1": loss1, "loss2": loss2, "accuracy": _accuracy(fused, labels)}


def one_branch_loss(fused_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """ImageNet's cam loss, CE(s2, y)."""
    fused = pooled(fused_maps)
    return {"loss": F.cross_entropy(fused, labels), "accuracy": _accuracy(fused, labels)}


def segmentation_loss(logits: Tensor, targets: Tensor, ignored_in_divisor: bool = True) -> dict[str, Tensor]:
    """Binary cross-entropy of the enlarged logits; ignored pixels weigh nothing.

    Args:
        logits: (B, 1, h, w).
        targets: (B, H, W) uint8 of `BACKGROUND`, `FOREGROUND` and `IGNORED`.
        ignored_in_divisor: divide by all pixels, as released; otherwise by those that weigh.
    """
    with torch.autocast(logits.device.type, enabled=False):
        z = enlarged(_wide(logits), targets.shape[1:])[:, 0]
        weight = (targets != IGNORED).to(z.dtype)
        each = F.binary_cross_entropy_with_logits(z, (targets == FOREGROUND).to(z.dtype), weight, reduction="sum")
        divisor = weight.numel() if ignored_in_divisor else weight.sum().clamp(min=1)
        return {"loss": each / divisor, "ignored": 1 - weight.mean()}


def classification_loss(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The classifier's cross-entropy."""
    scores = _wide(scores)
    return {"loss": F.cross_entropy(scores, labels), "accuracy": _accuracy(scores, labels)}


def _wide(values: Tensor) -> Tensor:
    """float32 where it was half precision; float64 stays."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.detach().argmax(dim=1) == labels).float().mean()
