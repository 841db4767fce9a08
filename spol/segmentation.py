"""Foreground and box of a photograph, as the seg stage's network sees it."""

import re
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.measuring.geometry import Size
from spol.models import enlarged

RESIZE, CROP = 256, 224
"""The release's: squashed to 256, the central 224 segmented."""


def input_kind(frame_kind: str, trained_resize: int = RESIZE) -> str:
    """Part of an image that the network sees so that its output covers a frame.

    A network that was trained on images of another size than the release's sees them at that size: a frame of
    `resize 256 crop 224` is seen as `resize 192 crop 168` by one that was trained at 192.

    Args:
        frame_kind: of `common.measuring.geometry`.
        trained_resize: what images were squashed to in training.
    """
    return re.sub(r"\d+", lambda side: str(round(int(side.group()) * trained_resize / RESIZE)), frame_kind)


@torch.no_grad()
def foreground(network: Callable[[Tensor], Tensor], images: Tensor, size: Size) -> np.ndarray:
    """Foreground probability, (B, height, width) float32: the sigmoid of the enlarged logits.

    Args:
        network: of the stage seg, in eval mode.
        images: (B, 3, H, W), normalized RGB.
        size: width and height wanted.
    """
    logits = network(images).float()
    return enlarged(logits, (size[1], size[0])).sigmoid()[:, 0].cpu().numpy()
