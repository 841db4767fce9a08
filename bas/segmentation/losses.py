"""The losses of BAS's segmentation network for images with several classes, and their sum.

    L = L_CLS + alpha L_FRG + L_BAS + beta L_AC        alpha 0.2, beta 1.2

One of an image's true classes, t, is drawn at random; M_fg is that class's foreground map. L_CLS trains the extractor
and the classifier, the others the generator and, through the features it reads, the extractor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bas.config import VARIANTS
from bas.losses import area_constraint, background_activation_suppression, background_ratio
from bas.network import Output


def multi_label(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over images of the sum over true classes c of log(1 + sum over other classes n of exp(s_n - s_c)).

    Each true class competes with the false ones alone, so this is neither one softmax nor binary cross-entropy.

    Args:
        scores: s (B, C).
        labels: (B, C), 1 for true classes.
    """
    true = labels > 0
    rivals = scores.masked_fill(true, -torch.inf).logsumexp(dim=1, keepdim=True) - scores
    return torch.where(true, torch.logaddexp(rivals, torch.zeros_like(rivals)), 0).sum(dim=1).mean()


def draw_classes(labels: Tensor) -> Tensor:
    """One true class (B,) of each image's labels (B, C), from PyTorch's generator of the CPU."""
    return torch.multinomial((labels > 0).to("cpu", torch.float32), 1)[:, 0].to(labels.device)


def foreground_region_guidance(guided_scores: Tensor, classes: Tensor, labels: Tensor, rivals: str) -> Tensor:
    """L_FRG: the drawn class against others, under its foreground map.

    Args:
        guided_scores: s_frg (B, C).
        classes: t (B,).
        labels: (B, C).
        rivals: `softmax`, all other classes, the image's true ones included, as released; or `negatives`, those that
            the image does not show.
    """
    if rivals == "negatives":
        others = (labels > 0) & (F.one_hot(classes, labels.shape[1]) == 0)
        guided_scores = guided_scores.masked_fill(others, -torch.inf)
    return F.cross_entropy(guided_scores, classes)


def ratio(output: Output) -> Tensor:
    """S_bg / S (B,), both rectified, S detached; 1, without a gradient, where S_bg exceeds S."""
    _, activation, background_activation = output.of_step()
    return background_ratio(activation, background_activation, VARIANTS["EXT"], "resnet")


def total(
    output: Output, labels: Tensor, classes: Tensor, alpha: float = 0.2, beta: float = 1.2, frg: str = "softmax"
) -> dict[str, Tensor]:
    """Every loss by name, and `loss`, what training minimizes.

    Args:
        output: of the training step.
        labels: (B, C).
        classes: (B,), those drawn.
        alpha, beta: weights of L_FRG and L_AC.
        frg: see `foreground_region_guidance`.
    """
    losses = {
        "cls": multi_label(output.scores, labels),
        "frg": foreground_region_guidance(output.of_step()[0], classes, labels, frg),
        "bas": background_activation_suppression(ratio(output)),
        "area": area_constraint(output.foreground_map),
    }
    losses["loss"] = losses["cls"] + alpha * losses["frg"] + losses["bas"] + beta * losses["area"]
    return losses
