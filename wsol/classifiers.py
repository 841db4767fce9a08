"""A classifier of one's own, checked and made ready for the methods that need no training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.pytorch import maps
from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import scores_of, unwrapped
from common.pytorch.runtime import for_inference, pick_device
from common.system.errors import UserError, printable
from wsol.torch_methods import ByMaps, Normalize

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NORMALIZATIONS = (IMAGENET, ((0.5,) * 3, (0.5,) * 3))
"""Means and deviations that networks with a normalization of their own inside have."""
SIDE = 224
_CHANNELS_LAST = {"SwinTransformer", "SwinTransformerV2"}
_TOKENS = {"VisionTransformer", "VisionTransformerRelPos", "Beit", "Eva", "MlpMixer"}
"""Classes of timm's and torchvision's networks without maps; others are refused by the maps themselves."""


@dataclass(frozen=True, eq=False)
class Own:
    """A classifier, and what its images look like.

    Attributes:
        model: scores (N, K) of normalized RGB images.
        architecture: its name.
        input_size: side of its input.
        mean, std: RGB, what images in [0, 1] are normalized with.
        reshape: see `common.pytorch.maps.reshape`.
        class_names: where they are known.
        scores: takes the scores out of what the network returns.
    """

    model: nn.Module
    architecture: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reshape: Reshape | None = None
    class_names: tuple[str, ...] | None = None
    scores: Callable[[Any], Tensor] = scores_of

    @torch.inference_mode(False)
    def as_method(self, method: str, layer: str | int | nn.Module | None, device: str, sigmoid: bool) -> ByMaps:
        """Put the network into inference on a device, for a method; `sigmoid` as for `wsol.load`.

        Raises:
            UserError: a network that can't be used, or images of another size or normalization than it takes.
        """
        where = pick_device(device)
        model = for_inference(usable(self.model), where)
        dtype = _precision(model)
        count = self._outputs(model, torch.zeros(1, 3, self.input_size, self.input_size, device=where, dtype=dtype))

        normalize = Normalize(self.mean, self.std, where, dtype)
        layer = 0 if layer is None else layer
        return ByMaps(
            model, method, layer, normalize, where, architecture=self.architecture, class_names=self.class_names,
            num_classes=count, side=self.input_size, reshape=self.reshape, scores=self.scores, sigmoid=sigmoid,
        )  # fmt: skip

    def _outputs(self, model: nn.Module, black: Tensor) -> int:
        """Number of classes, by a look at an image that is zero after normalization."""
        before = _random_state(black.device)
        output, seen = _output_and_input_of_convolutions(model, black)
        if seen:
            self._normalized_once(seen[0])
        _say_which(output)
        _say_what_varies(model, not torch.equal(before, _random_state(black.device)))
        return self.scores(output).shape[1]

    def _normalized_once(self, first: Tensor) -> None:
        """Refuse to normalize what the network normalizes itself: its first layer sees something else than zeros then.

        Raises:
            UserError: it sees a usual normalization of zeros.
        """
        if not any(self.mean) or first.ndim != 4 or first.shape[1] != 3:
            return
        middle = first.float().flatten(2).median(dim=2).values[0].cpu().numpy()
        for mean, std in (*_NORMALIZATIONS, (self.mean, self.std)):
            if np.allclose(middle, -np.divide(mean, std), atol=1e-3):
                raise UserError(
                    "the network normalizes its images itself, so that they would be normalized twice",
                    do="say mean 0 0 0 and std 1 1 1",
                )  # fmt: skip


def _output_and_input_of_convolutions(model: nn.Module, images: Tensor) -> tuple[Any, list[Tensor]]:
    """The output of the network, and the inputs of its convolutions in the order in which they ran.

    Raises:
        UserError: it can't take the images.
    """
    seen: list[Tensor] = []

    def watch(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.extend(inputs[:1])

    handles = [one.register_forward_pre_hook(watch) for one in model.modules() if isinstance(one, nn.Conv2d)]
    try:
        with torch.no_grad():
            return model(images), seen
    except UserError:
        raise
    except Exception as error:  # of a network of the user's, which may fail in any way
        raise UserError(
            f"the network can't take images {tuple(images.shape)} ({printable(str(error))[:200]})",
            do="say its input_size; it must take normalized RGB images (N, 3, H, W)",
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _say_what_varies(model: nn.Module, drew_random_numbers: bool) -> None:
    """Say where an image's map depends on more than the image."""
    if any(isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) and one.running_mean is None for one in model.modules()):
        print("note: the network's batch norm keeps no running statistics: an image's map depends on the images "
              "that it is looked at with")  # fmt: skip
    if drew_random_numbers:
        print("note: the network draws random numbers in inference, as a functional dropout without "
              "`training=self.training` does: an image's map is another one each time")  # fmt: skip


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def usable(model: Any) -> nn.Module:
    """Look through a network's wrappers.

    Raises:
        UserError: no network, one without weights, or one without a classifier.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"a {type(model).__name__}", expected="a torch.nn.Module", do="load files by wsol.load")
    model = unwrapped(model)
    if any(weight.is_meta for weight in (*model.parameters(), *model.buffers())):
        raise UserError("the network's weights are on the device meta, where they have no values",
                        do="load its weights first")  # fmt: skip
    if any(weight.is_inference() for weight in (*model.parameters(), *model.buffers())):
        raise UserError("the network's weights were made in torch.inference_mode, where they give no gradients",
                        do="make it, or a copy.deepcopy of it, outside")  # fmt: skip
    if type(classes := getattr(model, "num_classes", None)) is int and classes == 0:
        raise UserError("the network has no classifier: its num_classes is 0",
                        do="take one that was trained to classify")  # fmt: skip
    return model


def _say_which(output: Any) -> None:
    """Say which of several outputs that could be scores is taken."""
    if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
        alike = [tuple(one.shape) for one in output if isinstance(one, Tensor) and one.ndim == 2]
        if len(alike) > 1 and isinstance(output[0], Tensor):
            print(f"note: of the network's outputs {', '.join(map(str, alike))} the first is taken as its scores; "
                  "wsol.cam takes another by `scores`")  # fmt: skip


def in_memory(
    model: Any, input_size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None,
    reshape: Reshape | None,
    scores: Callable[[Any], Tensor] | None,
) -> Own:  # fmt: skip
    """A network that somebody holds, seen as `known_images` says."""
    model = usable(model)
    side, known_mean, known_std = known_images(model, input_size, mean is not None and std is not None)
    images = checked_images(side, known_mean if mean is None else mean, known_std if std is None else std)
    return Own(model, type(model).__name__, *images, reshape or known_reshape(model), scores=scores or scores_of)


def known_images(
    model: nn.Module, side: int | None = None, said: bool = False
) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side, mean and deviation that timm and pretrainedmodels keep with their networks, else 224 and ImageNet's.

    They are looked for in a wrapper of the user's too.

    Args:
        model: the network.
        side: said by the user.
        said: so are mean and deviation.

    Raises:
        UserError: images are no squares, or BGR.
    """
    for module in model.modules():
        config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
        if not isinstance(config, dict):
            config = {name: getattr(module, name) for name in _SETTINGS if hasattr(module, name)}
            config = config if len(config) == len(_SETTINGS) else {}
        if {"input_size", "mean", "std"} <= config.keys():
            if config.get("input_space") == "BGR" and not said:
                raise UserError("the network takes BGR images", expected="RGB", do="give a module that turns them, by "
                                "`self.network(images.flip(1))`, and say mean and std in RGB's order")  # fmt: skip
            greatest = max(config.get("input_range", (1,)))
            side = _square(config["input_size"]) if side is None else side
            mean, std = (tuple(value / greatest for value in config[name]) for name in ("mean", "std"))
            return side, mean, std
    if not said and any(type(module).__module__.startswith("transformers.") for module in model.modules()):
        print("note: images are normalized with ImageNet's mean and deviation: those of a network of transformers its "
              "image processor knows, image_mean and image_std; say them as mean and std")  # fmt: skip
    return SIDE if side is None else side, *IMAGENET


_SETTINGS = ("input_space", "input_size", "input_range", "mean", "std")
"""Attributes of pretrainedmodels' networks."""


def _square(size: Sequence[int]) -> int:
    if size[-1] != size[-2]:
        raise UserError(f"the network's images are {size[-1]} x {size[-2]}", expected="a square", do="say input_size")
    return int(size[-1])


def checked_images(side: Any, mean: Any, std: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side, mean and deviation as given, checked."""
    if isinstance(side, bool) or not isinstance(side, int | np.integer) or side < 1:
        raise UserError(f"input size {side}", expected="the side of a square, 1 or more")
    said = f"mean {mean}, std {std}"
    try:
        mean, std = tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not min(std) > 0 or not all(map(math.isfinite, mean + std)):
        raise UserError(said, expected="three numbers each, deviations above 0")
    if min(mean) < 0 or max(mean) > 1 or max(std) > 10:
        raise UserError(said, expected="those of images in [0, 1]", do="divide those of images in [0, 255] by 255")
    return int(side), mean, std


def known_reshape(model: nn.Module) -> Reshape | None:
    """Choose what makes maps of the layers of timm's and torchvision's ViT and Swin; None for other networks."""
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if kinds & _CHANNELS_LAST:
        return maps.channels_last
    if not kinds & _TOKENS:
        return None
    patches: Any = getattr(model, "patch_embed", getattr(model, "stem", None))
    grid = getattr(patches, "grid_size", None)
    if grid is not None:
        prefix = getattr(model, "num_prefix_tokens", 0 if "MlpMixer" in kinds else 1)
        return maps.tokens(int(prefix), (int(grid[0]), int(grid[1])))
    return maps.tokens()


def _precision(model: nn.Module) -> torch.dtype:
    found = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    if found not in (torch.float32, torch.float64):
        raise UserError(f"the network's weights are {found}", expected="float32 or float64",
                        do="call model.float() first")  # fmt: skip
    return found
