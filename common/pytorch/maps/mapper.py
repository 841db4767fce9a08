"""A classifier and what is to be mapped of it: the object that one makes once and calls with images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.maps.cam import class_activation, need_linear
from common.pytorch.maps.dual_gradients import dual_gradients
from common.pytorch.maps.evidence import ALPHA, GRADIENTS, Evidence, evidence
from common.pytorch.maps.grad_cam import grad_cam
from common.pytorch.maps.layers import Layer, layers, resolved
from common.pytorch.maps.norms import Norm, constant_deviations, layer_norms
from common.pytorch.maps.places import need_in_place
from common.pytorch.maps.refined import refined
from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import need_inference, need_no_sums_of_one, one_at_a_time, scores_of, unwrapped
from common.system.errors import UserError

METHODS: dict[str, Callable[[Evidence], Tensor]] = {
    "cam": lambda found: class_activation(found.features, found.selection),
    "grad-cam": lambda found: grad_cam(found.features, found.selection),
    "dgl": lambda found: dual_gradients(found.features, found.needed_gradient(), found.selection),
    "grcam": lambda found: refined(found.features, found.needed_gradient(), found.selection),
}
"""Maps (N, h, w) by method."""
LAST_ONLY = ("cam", "grcam")
"""Methods of the last map, whatever layers are asked for."""
OF_TWO_GRADIENTS = ("dgl", "grcam")


@dataclass(frozen=True)
class Found:
    """Maps and scores of N images.

    Attributes:
        scores: (N, K) float32, before the softmax.
        maps: (N, h, w) float32, not stretched, by method and layer.
    """

    scores: Tensor
    maps: dict[tuple[str, str], Tensor]


class Mapper:
    """Localization maps of a classifier at some of its layers.

    Args:
        model: any module whose scores depend on the images, in eval mode. Wrappers of DataParallel,
            DistributedDataParallel and torch.compile are looked through: maps are made on one device, uncompiled, and
            outside of autocast.
        methods: of `METHODS`. CAM and GRCAM are of the last layer alone, the others of each in `layers`.
        layers: modules' names, numbers counted from the last map down (0 is the last), or `all`.
        alpha: the label's factor, 10 in both papers.
        gradient: `released`: p - alpha y. `true`: the derivative, alpha (p - y).
        reshape: how layers' outputs become (N, C, h, w) where they are none, such as `maps.tokens()`.
        scores: takes the scores (N, K) out of what the network returns; by default the tensor itself, the first of a
            tuple, `logits` or `scores`.

    Raises:
        UserError: a method that there isn't, a model in training mode; when called, a layer that there isn't (it names
            those that there are) or that can't be mapped.
    """

    def __init__(
        self, model: nn.Module, methods: Sequence[str] = ("dgl",), layers: Sequence[str | int | nn.Module] = (0,),
        alpha: float = ALPHA, gradient: str = "released", reshape: Reshape | None = None,
        scores: Callable[[Any], Tensor] = scores_of,
    ):  # fmt: skip
        if unknown := [method for method in methods if method not in METHODS]:
            raise UserError(f"unknown method {unknown[0]!r}", expected=f"one of {', '.join(METHODS)}")
        if not methods or alpha <= 0 or gradient not in GRADIENTS:
            raise UserError(f"methods {list(methods)}, alpha {alpha}, gradient {gradient!r}",
                            expected=f"a method, alpha above 0, and one of {', '.join(GRADIENTS)}")  # fmt: skip
        self.model, self.methods = unwrapped(model), tuple(methods)
        need_inference(self.model)
        self.wanted = (layers,) if isinstance(layers, str | int | nn.Module) else tuple(layers)
        self.alpha, self.gradient, self.reshape, self.scores = alpha, gradient, reshape, scores
        self._runs: list[tuple[str, str]] | None = None
        self._is_linear = self._is_in_place = False

    def layers(self, images: Tensor) -> list[Layer]:
        """The layers that there are, from the last map down; see `maps.layers`."""
        return layers(self.model, images, self.reshape, self.scores)

    def runs(self, images: Tensor) -> list[tuple[str, str]]:
        """The (method, layer) of every map that a call gives, found by running the first of some images."""
        if self._runs is None:
            known: list[Layer] = []

            def listing() -> list[Layer]:
                if not known:
                    known.extend(self.layers(images))
                return known

            runs = []
            for method in self.methods:
                wanted = self._last() if method in LAST_ONLY else self.wanted
                runs += [(method, name) for name in resolved(self.model, wanted, listing)]
            self._runs = runs
        return self._runs

    def _last(self) -> tuple[str | int | nn.Module, ...]:
        """Layer that CAM and GRCAM are made at: the one asked for where they stand alone, else the last."""
        return self.wanted if len(self.wanted) == 1 and all(m in LAST_ONLY for m in self.methods) else (0,)

    def __call__(self, images: Tensor, classes: Tensor | None = None) -> Found:
        """Maps of images, all of the batch and all layers in one forward and two backward passes.

        A network with layer norms goes through once for CAM and GRCAM (see `norms`) and once for the other methods.

        Args:
            images: (N, 3, H, W), normalized as the network wants them, on its device.
            classes: (N,) indices whose maps are wanted; by default each image's best class.
        """
        runs = self.runs(images)
        with one_at_a_time(self.model):
            return self._made(runs, images, classes)

    def _made(self, runs: list[tuple[str, str]], images: Tensor, classes: Tensor | None) -> Found:
        made: dict[tuple[str, str], Tensor] = {}
        for chosen, norms in self._together(runs):
            names = list(dict.fromkeys(name for _, name in chosen))
            gradient = self.gradient if any(method in OF_TWO_GRADIENTS for method, _ in chosen) else None
            with constant_deviations(norms):
                scores, found = evidence(
                    self.model, images, names, classes, self.alpha, gradient, self.reshape, self.scores
                )
                made |= {(method, name): METHODS[method](found[name]) for method, name in chosen}
                self._need_linear(chosen, images)
        self._need_in_place(runs, images, scores)
        return Found(scores, {run: made[run] for run in runs})

    def _together(self, runs: list[tuple[str, str]]) -> Iterator[tuple[list[tuple[str, str]], list[Norm]]]:
        """Runs that one pass gives, and the norms whose deviations are constants in it, as CAM and GRCAM have them."""
        linear = [run for run in runs if run[0] in LAST_ONLY]
        norms = layer_norms(self.model) if linear else []
        others = [run for run in runs if run not in linear]
        if norms and others:
            yield others, []
        yield (linear if norms else runs), norms

    def _need_in_place(self, runs: list[tuple[str, str]], images: Tensor, scores: Tensor) -> None:
        """Look once whether maps lie on the images as they are, and whether the scores are some."""
        if len(images) and not self._is_in_place:
            of_noise = need_in_place(self.model, images, runs[0][1], self.reshape, self.scores)
            need_no_sums_of_one(torch.cat([scores, of_noise]))
            self._is_in_place = True

    def _need_linear(self, runs: list[tuple[str, str]], images: Tensor) -> None:
        """Look once whether CAM's and GRCAM's layer is what they are defined for."""
        names = {name for method, name in runs if method in LAST_ONLY}
        if names and len(images) and not self._is_linear:
            (name,) = names
            need_linear(self.model, images, name, self.scores)
            self._is_linear = True
