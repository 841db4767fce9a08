"""The four losses of BAS, each a mean over the batch, and their sum.

    L = L_CLS + alpha L_FRG + L_BAS + beta L_AC

L_CLS and L_FRG train the classifier, L_BAS and L_AC the generator and, through the features it reads, the extractor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bas.config import Variant
from bas.network import Output


def classification(scores: Tensor, labels: Tensor) -> Tensor:
    """L_CLS: cross-entropy of the scores s."""
    return F.cross_entropy(scores, labels)


def foreground_region_guidance(guided_scores: Tensor, labels: Tensor) -> Tensor:
    """L_FRG: cross-entropy of the scores under the foreground map, s_frg; nothing is detached."""
    return F.cross_entropy(guided_scores, labels)


def background_ratio(activation: Tensor, background_activation: Tensor, variant: Variant, arch: str) -> Tensor:
    """S_bg / S of each image, a constant where suppressing the foreground did not lower the activation; (B,).

    S is detached. Without that constant the classifier collapses (the authors, in their repository's issue 2).
    """
    if variant.rectified:
        activation, background_activation = activation.relu(), background_activation.relu()
    ratio = background_activation / (activation.detach() + 1e-8)
    compare = torch.ge if variant.masked_from == ">=" else torch.gt
    masked = compare(background_activation, activation)
    return torch.where(masked, torch.full_like(ratio, variant.masked_ratio(arch)), ratio)


def background_activation_suppression(ratio: Tensor) -> Tensor:
    """L_BAS: the mean of `background_ratio`."""
    return ratio.mean()


def area_constraint(foreground_map: Tensor) -> Tensor:
    """L_AC: the mean of the foreground maps."""
    return foreground_map.mean()


def total(output: Output, labels: Tensor, variant: Variant, arch: str, alpha: float, beta: float) -> dict[str, Tensor]:
    """Every loss by name, and `loss`, what training minimizes; with alpha 0, L_FRG is left out."""
    guided_scores, activation, background_activation = output.of_step()
    ratio = background_ratio(activation, background_activation, variant, arch)
    losses = {
        "cls": classification(output.scores, labels),
        "bas": background_activation_suppression(ratio),
        "area": area_constraint(output.foreground_map),
    }
    losses["loss"] = losses["cls"] + losses["bas"] + beta * losses["area"]
    if alpha:
        losses["frg"] = foreground_region_guidance(guided_scores, labels)
        losses["loss"] = losses["loss"] + alpha * losses["frg"]
    return losses
