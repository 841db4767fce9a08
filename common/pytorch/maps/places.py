"""Whether a layer's maps lie on the images as they are: a network may crop, mirror or turn its images itself.

It is seen from gradients, on an image of noise: the lower half of a map depends on places of the image below those that
the upper half depends on, and the right half on places to the right of the left's. Attention over the whole image blurs
that, and places that all look at change nothing in it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import differentiable, hooked
from common.system.errors import UserError, say

UNSEEN = 0.04
"""Share of a side that the scores may not depend on at an edge; convolutions without padding pass over 0.02 of it."""
ASTRAY = 0.05
"""Distance, in sides, by which the centres that two halves depend on lie the wrong way round, or aside."""


def need_in_place(
    model: nn.Module, images: Tensor, name: str, reshape: Reshape | None, scores: Callable[[Any], Tensor]
) -> Tensor:
    """Look whether a layer's maps lie on images (N, 3, H, W), of which the size alone matters.

    Edges that the scores do not depend on are said.

    Returns:
        The scores (1, K) of an image of noise.

    Raises:
        UserError: the network mirrors or turns its images before the layer.
    """
    noise = torch.randn(1, *images.shape[1:], generator=torch.Generator().manual_seed(0), dtype=images.dtype)
    kept: list[Tensor] = []
    with differentiable(model, noise.to(images.device)) as given:
        seen = given.clone().requires_grad_()
        with hooked(model, {name: lambda output: kept.append(output)}):
            rated = scores(model(seen.clone()))
        made = kept[0] if reshape is None else reshape(kept[0])
        height, width = made.shape[2:]
        halves: list[Tensor] = []
        for axis, side in ((2, height), (3, width)) if min(height, width) > 1 else ():
            halves += [made.narrow(axis, start, side // 2).sum() for start in (0, side - side // 2)]
        found = [_strength(value, seen) for value in (rated.amax(), *halves)]
    centres = [_centre(each) for each in found[1:]]
    say(_unseen(found[0], _spans(centres, height, width) if centres else (0.0, 0.0)))
    if centres and _astray(*centres):
        raise UserError(f"the network mirrors or turns its images before {name}, so that maps of it don't lie on them",
                        do="take that out of the network")  # fmt: skip
    return rated.detach().float()


def _strength(value: Tensor, seen: Tensor) -> Tensor:
    """Strength (H, W) by which a value depends on each pixel; zeros where no gradient leads there."""
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, seen, retain_graph=True, allow_unused=True)
    strength = torch.zeros_like(seen) if gradient is None else gradient.abs()
    return strength.double().sum(dim=(0, 1)).cpu()


def _centre(strength: Tensor) -> tuple[float, float]:
    """The centre (y, x) of a strength (H, W), in sides from the middle; 0 where there is none."""
    if not strength.any():
        return 0.0, 0.0
    total = strength.sum()
    places = [(torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5 for side in strength.shape]
    along_y, along_x = ((strength.sum(dim=1 - axis) * place).sum() / total for axis, place in enumerate(places))
    return float(along_y), float(along_x)


def _astray(*centres: tuple[float, float]) -> bool:
    """Whether the centres of the upper, lower, left and right half lie the wrong way round, or beside one another."""
    upper, lower, left, right = centres
    down, aside = lower[0] - upper[0], lower[1] - upper[1]
    across, below = right[1] - left[1], right[0] - left[0]
    mirrored = min(down, across) < -ASTRAY
    turned = min(abs(aside), abs(below)) > ASTRAY > max(abs(down), abs(across))
    return mirrored or turned


def _spans(centres: Sequence[tuple[float, float]], height: int, width: int) -> tuple[float, float]:
    """Distances, down and across, of the centres that two halves of a map (height, width) depend on, as shares of what
    they are where the map shows the whole image; less where it shows a part, or its places see far around.
    """
    upper, lower, left, right = centres
    down, across = lower[0] - upper[0], right[1] - left[1]
    return down * height / (height - height // 2), across * width / (width - width // 2)


def _unseen(strength: Tensor, spans: tuple[float, float]) -> list[str]:
    """A note where the scores depend on no pixel of a broad edge.

    A map whose places lie as far apart as over the whole image shows no part of it: an edge is passed over by strides,
    as in networks whose residual branches begin at zero.
    """
    lines = [strength.any(dim=dim).nonzero()[:, 0].tolist() for dim in (1, 0)]
    if not all(lines):
        return []
    height, width = strength.shape
    (rows, columns) = lines
    edges = {
        "above": (rows[0], height), "below": (height - 1 - rows[-1], height),
        "left": (columns[0], width), "right": (width - 1 - columns[-1], width),
    }  # fmt: skip
    whole = [span > 1 - (side - 1 - (seen[-1] - seen[0])) / (2 * side)
             for span, seen, side in zip(spans, lines, strength.shape, strict=True)]  # fmt: skip
    broad = [f"{count} {where}" for number, (where, (count, side)) in enumerate(edges.items())
             if count > UNSEEN * side and not whole[number // 2]]  # fmt: skip
    if not broad:
        return []
    return [f"note: the network's scores don't depend on the outer pixels of its images, {', '.join(broad)} of "
            f"{width} x {height}, as where it crops them itself; its maps are laid over the whole image all the same: "
            "take the crop out of the network"]  # fmt: skip
