"""The material of maps: a layer's features S and two vector-Jacobian products at them, of all layers and images at
once.

    D = J^T y                       gradient of the class's score, before the softmax
    G = J^T (p - alpha y)           "released": what TensorFlow takes for the gradient of the cross-entropy with alpha y
    G = alpha J^T (p - y)           "true": the derivative, which torch's own cross-entropy would give

J = dz / dS, p = softmax(z). TensorFlow's kernel takes softmax - labels for the gradient whatever the labels sum to, so
that the two differ unless alpha is 1; DGL's and GRCAM's numbers rest on the first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.maps.reshape import Reshape, is_map
from common.pytorch.maps.tapping import differentiable, need_inference, scores_of, tapped, unwrapped
from common.system.errors import UserError
from common.system.wording import number_of

ALPHA = 10.0
"""The label's factor in both papers."""
GRADIENTS = ("released", "true")


@dataclass(frozen=True)
class Evidence:
    """Tensors of one layer, float32 (N, C, h, w).

    Attributes:
        features: S.
        selection: D.
        gradient: G; None where it wasn't asked for.
    """

    features: Tensor
    selection: Tensor
    gradient: Tensor | None

    def needed_gradient(self) -> Tensor:
        """The gradient, for a method that can't do without.

        Raises:
            ValueError: it wasn't asked for.
        """
        if self.gradient is None:
            raise ValueError("the method is of two gradients, and one was asked for")
        return self.gradient


def evidence(
    model: nn.Module,
    images: Tensor,
    names: Sequence[str],
    classes: Tensor | None = None,
    alpha: float = ALPHA,
    gradient: str | None = "released",
    reshape: Reshape | None = None,
    scores: Callable[[Any], Tensor] = scores_of,
) -> tuple[Tensor, dict[str, Evidence]]:
    """Scores (N, K), and each layer's evidence by name, from one forward pass and one backward pass each for D and G.

    Only what lies behind the earliest layer is gone through backwards. No image influences another's.

    Args:
        model: in eval mode; its weights get no gradients and their `requires_grad` is as before.
        images: (N, 3, H, W), normalized, on the model's device.
        names: of modules.
        classes: (N,) indices; or (N, K) weights of the classes; by default each image's best, see `best_classes`.
        alpha: factor of the label.
        gradient: `released`, `true`, or None for D alone.
        reshape: see `common.pytorch.maps.reshape`.
        scores: takes the scores out of what the network returns.

    Raises:
        UserError: a model in training mode, a layer that can't be tapped or is no map, or a class that there isn't.
        ValueError: another gradient.
    """
    if gradient is not None and gradient not in GRADIENTS:
        raise ValueError(f"unknown gradient {gradient!r}, expected one of {', '.join(GRADIENTS)}")
    model = unwrapped(model)
    need_inference(model)
    with differentiable(model, images) as given:
        found, kept = tapped(model, given, list(names), scores)
        likely = found.detach().softmax(dim=1)
        label = one_hot(classes, likely)
        selections = _pulled(found, kept, label, last=gradient is None)
        gradients: dict[str, Tensor] = {}
        if gradient is not None:
            delta = likely - alpha * label if gradient == "released" else alpha * (likely - label)
            gradients = _pulled(found, kept, delta, last=True)
    made = {}
    for name in names:
        features = _as_map(kept.pop(name).detach(), images, name, reshape)
        selection = _as_map(selections.pop(name), images, name, reshape)
        pulled = gradients.pop(name, None)
        made[name] = Evidence(features, selection, None if pulled is None else _as_map(pulled, images, name, reshape))
        if reshape is not None and not bool(made[name].selection.any()):
            raise UserError(f"the scores don't depend on the map that the reshape makes of {name}",
                            do="take an earlier layer")  # fmt: skip
    return found.detach(), made


def best_classes(probabilities: Tensor) -> Tensor:
    """(N, K) probabilities to their best class as one-hot; several ones where several are equally best, as released."""
    highest = probabilities.amax(dim=1, keepdim=True)
    return ((probabilities == highest) & (probabilities > 0)).to(probabilities.dtype)


def one_hot(classes: Tensor | None, probabilities: Tensor) -> Tensor:
    """The classes asked for as weights (N, K).

    Raises:
        UserError: a class that there isn't, or one for another number of images.
    """
    count, known = probabilities.shape
    if classes is None:
        return best_classes(probabilities)
    classes = classes.to(probabilities.device)
    if classes.is_floating_point():
        if classes.shape != probabilities.shape:
            raise UserError(f"weights of classes {tuple(classes.shape)}", expected=f"({count}, {known})")
        return classes.to(probabilities.dtype)
    if classes.shape != (count,) or (count and not bool(((classes >= 0) & (classes < known)).all())):
        raise UserError(f"classes {classes.flatten()[:8].tolist()} of shape {tuple(classes.shape)}",
                        expected=f"{count} of 0 to {known - 1}")  # fmt: skip
    return torch.nn.functional.one_hot(classes.long(), known).to(probabilities.dtype)


def _pulled(scores: Tensor, kept: dict[str, Tensor], vector: Tensor, last: bool) -> dict[str, Tensor]:
    """J^T vector at every tensor kept."""
    pulled = torch.autograd.grad(scores, list(kept.values()), vector, retain_graph=not last, allow_unused=True)
    for name, value in zip(kept, pulled, strict=True):
        if value is None:
            raise UserError(f"the scores don't depend on the layer {name}", do="take another layer")
    return dict(zip(kept, pulled, strict=True))


def _as_map(values: Tensor, images: Tensor, name: str, reshape: Reshape | None) -> Tensor:
    made = values if reshape is None else reshape(values)
    if not is_map(made, images):
        raise UserError(
            f"the layer {name} gives {tuple(made.shape)} for images {tuple(images.shape)}",
            expected="a map (N, C, h, w)",
            do="say by `reshape` how it becomes one: maps.tokens() or maps.channels_last",
        )
    if len(made) != len(images):
        maps, of = number_of(len(made), "map", "maps"), number_of(len(images), "image", "images")
        raise UserError(f"the layer {name} gives {maps} for {of}, as where a network looks at crops or mirror images "
                        "of each", do="give the network that sees each image once")  # fmt: skip
    return made.float()
