"""Classifiers of one's own: a library's network or a function that builds one, and a plain state dict for it."""

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.datasets.known import imagenet_names
from common.pytorch import checkpoints, maps, state_dicts
from common.pytorch.data import normalized
from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import scores_of, unwrapped
from common.pytorch.runtime import for_inference, pick_device
from common.system.errors import UserError, printable
from wsol.torch_methods import ByMaps

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NORMALIZATIONS = (IMAGENET, ((0.5,) * 3, (0.5,) * 3))
"""Means and deviations that networks with a normalization of their own inside have."""
SIDE = 224
_CHANNELS_LAST = {"SwinTransformer", "SwinTransformerV2"}
_OWN_NORMALIZATION = ("googlenet", "inception_v3")
"""Networks of torchvision that turn ImageNet's normalization into 0.5 and 0.5 where they begin with its weights, and
not where they are built without; a state dict doesn't say which."""
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
    reshape: Any = None
    class_names: tuple[str, ...] | None = None
    scores: Callable[[Any], Tensor] = scores_of

    def as_method(self, method: str, layer: str | int | nn.Module | None, device: str, sigmoid: bool) -> ByMaps:
        """Put the network into inference on a device, for a method; `sigmoid` as for `wsol.load`.

        Raises:
            UserError: a network that can't be used, or images that are none of its.
        """
        where = pick_device(device)
        model = for_inference(usable(self.model), where)
        dtype = _precision(model)
        count = self._outputs(model, torch.zeros(1, 3, self.input_size, self.input_size, device=where, dtype=dtype))

        def normalize(images: Tensor) -> Tensor:
            return normalized(images, self.mean, self.std, where).to(dtype)

        layer = 0 if layer is None else layer
        return ByMaps(
            model, method, layer, normalize, self.architecture, self.class_names, count, where, self.input_size,
            self.reshape, self.scores, sigmoid,
        )  # fmt: skip

    def _outputs(self, model: nn.Module, black: Tensor) -> int:
        """Number of classes, by a look at an image that is zero after normalization."""
        seen: list[Tensor] = []

        def watch(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.extend(inputs[:1])

        handles = [one.register_forward_pre_hook(watch) for one in model.modules() if isinstance(one, nn.Conv2d)]
        before = _random_state(black.device)
        try:
            with torch.no_grad():
                output = model(black)
        except UserError:
            raise
        except Exception as error:  # of a network of the user's, which may fail in any way
            raise UserError(
                f"the network can't take images {tuple(black.shape)} ({printable(str(error))[:200]})",
                do="say its input_size; it must take normalized RGB images (N, 3, H, W)",
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        if seen:
            self._normalized_once(seen[0])
        _say_which(output)
        if any(
            isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) and one.running_mean is None for one in model.modules()
        ):
            print("note: the network's batch norm keeps no running statistics: an image's map depends on the images "
                  "that it is looked at with")  # fmt: skip
        if not torch.equal(before, _random_state(black.device)):
            print("note: the network draws random numbers in inference, as a functional dropout without "
                  "`training=self.training` does: an image's map is another one each time")  # fmt: skip
        return self.scores(output).shape[1]

    def _normalized_once(self, first: Tensor) -> None:
        """Refuse to normalize what the network normalizes itself: its first layer sees something else than zeros then.

        Raises:
            UserError: it sees a usual normalization of zeros.
        """
        if not any(self.mean) or first.ndim != 4 or first.shape[1] != 3:
            return
        middle = first.float().flatten(2).median(dim=2).values[0].cpu()
        for mean, std in (*_NORMALIZATIONS, (self.mean, self.std)):
            if torch.allclose(middle, -torch.tensor(mean) / torch.tensor(std), atol=1e-3):
                raise UserError(
                    "the network normalizes its images itself, so that they would be normalized twice",
                    do="say mean 0 0 0 and std 1 1 1",
                )  # fmt: skip


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
    model: Any, input_size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None, reshape: Any,
    scores: Callable[[Any], Tensor] | None,
) -> Own:  # fmt: skip
    """A network that somebody holds, seen as timm says of its own networks, else at 224 with ImageNet's mean."""
    model = usable(model)
    side, known_mean, known_std = _known(model, input_size)
    images = _images(side, known_mean if mean is None else mean, known_std if std is None else std)
    return Own(model, type(model).__name__, *images, reshape or known_reshape(model), scores=scores or scores_of)


def _known(model: nn.Module, side: int | None = None) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side, mean and deviation that timm keeps with its networks, looked for in a wrapper of the user's too."""
    for module in model.modules():
        config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
        if isinstance(config, dict) and {"input_size", "mean", "std"} <= config.keys():
            side = _square(config["input_size"]) if side is None else side
            return side, tuple(config["mean"]), tuple(config["std"])
    return SIDE if side is None else side, *IMAGENET


def _square(size: Sequence[int]) -> int:
    if size[-1] != size[-2]:
        raise UserError(f"the network's images are {size[-1]} x {size[-2]}", expected="a square", do="say input_size")
    return int(size[-1])


def _images(side: Any, mean: Any, std: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
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


def load(
    checkpoint: str, arch: str | None, input_size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Own:
    """Build a network and load its weights strictly.

    Args:
        checkpoint: a state dict's file; or `timm:<name>` or `torchvision:<name>`, with the library's own weights.
        arch: of a file: `timm:<name>`, `torchvision:<name>` or `module:function`.
        input_size, mean, std: instead of what the library says of the network.

    Raises:
        UserError: unknown names, or weights that don't fit, with what is missing and unexpected.
    """
    published = checkpoint.startswith(("timm:", "torchvision:"))
    if published and arch is not None:
        raise UserError(f"{checkpoint} with arch {arch}", do="name the network by arch alone, and a file as checkpoint")
    state = None if published else checkpoints.read_state_dict(Path(checkpoint))
    library, _, name = (checkpoint if published else arch or "").partition(":")
    if library == "timm":
        own = _timm(name, state, input_size)
    elif library == "torchvision":
        state = state and _without_auxiliaries(name, state)
        own = _torchvision(name, state)
        if state and name in _OWN_NORMALIZATION and mean is None and std is None:
            print(f"note: {checkpoint}: images are normalized with 0.5 and 0.5, as {name} does that was begun with "
                  "torchvision's weights; of another, say mean and std")  # fmt: skip
    else:
        own = _built(library, name)
    if state is not None:
        _fill(own.model, state, Path(checkpoint))
    side = own.input_size if input_size is None else input_size
    images = _images(side, own.mean if mean is None else mean, own.std if std is None else std)
    return Own(own.model, own.architecture, *images, own.reshape, own.class_names)


def _outputs(state: dict[str, Tensor], classifiers: Sequence[str]) -> int:
    """Number of classes that a state dict's classifier gives scores for.

    Args:
        state: as read.
        classifiers: names that the library gives it; where none is there, the last linear layer counts.
    """
    endings = tuple(f".{name}.weight" for name in classifiers)
    weights = [value for name, value in state.items() if f".{name}".endswith(endings) and value.ndim in (2, 4)]
    for count in (2, 4):
        weights = weights or [one for name, one in state.items() if name.endswith("weight") and one.ndim == count]
    if not weights:
        raise UserError("no linear layer in this state dict", expected="a classifier's weights")
    return len(weights[-1])


def _timm(name: str, state: dict[str, Tensor] | None, input_size: int | None) -> Own:
    try:
        import timm
    except ImportError as error:
        raise UserError("timm is not installed here", do="pip install timm") from error
    try:
        options: dict[str, Any] = {}
        if state is not None:
            named = timm.models.get_pretrained_cfg_value(name, "classifier") or ()
            options["num_classes"] = _outputs(state, (named,) if isinstance(named, str) else named)
        if input_size is not None and timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
            options["img_size"] = input_size
        model = timm.create_model(name, pretrained=state is None, **options)
    except UserError:
        raise
    except Exception as error:  # timm passes on whatever its hub client raises
        raise UserError(f"timm can't make {name!r} ({type(error).__name__}: {printable(str(error))[:200]})",
                        do="see timm.list_models(); weights are fetched from the network") from error  # fmt: skip
    side, mean, std = _known(model, input_size)
    names = imagenet_names() if state is None else None
    names = names if names and model.num_classes == len(names) else None
    return Own(model, f"timm:{name}", side, mean, std, known_reshape(model), names)


def _torchvision(name: str, state: dict[str, Tensor] | None) -> Own:
    import torchvision.models as library

    if name not in library.list_models(module=library):
        raise UserError(f"torchvision has no classifier {name!r}", do="see torchvision.models.list_models()")
    weights = library.get_model_weights(name).DEFAULT
    try:
        if state is None:
            model = library.get_model(name, weights=weights)
        else:
            extra = {"init_weights": False, "aux_logits": False} if name in _OWN_NORMALIZATION else {}
            with torch.device("meta"):
                layers = dict(library.get_model(name, weights=None, **extra).named_modules())
            linear = [path for path, module in layers.items() if isinstance(module, nn.Linear | nn.Conv2d)]
            model = library.get_model(name, weights=None, num_classes=_outputs(state, linear[-1:]), **extra)
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision's weights of {name} can't be had ({printable(str(error))[:200]})",
                        do="fetch them where there is a network") from error  # fmt: skip
    seen = weights.transforms()
    names = tuple(weights.meta["categories"]) if state is None else None
    mean, std = tuple(seen.mean), tuple(seen.std)
    if state is not None and name in _OWN_NORMALIZATION:
        mean = std = (0.5,) * 3
    return Own(model, f"torchvision:{name}", int(seen.crop_size[0]), mean, std, known_reshape(model), names)


def _without_auxiliaries(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without those of auxiliary classifiers, which have no part in the scores and often other classes."""
    if name not in _OWN_NORMALIZATION:
        return state
    return {key: value for key, value in state.items() if not re.search(r"(^|\.)(AuxLogits|aux[12])\.", key)}


def _built(module: str, function: str) -> Own:
    """Call a function of the user's own, which is looked for in the current folder too."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise UserError(f"no {function!r} in the module {module!r} ({error})",
                        expected="arch as timm:<name>, torchvision:<name>, or module:function") from error  # fmt: skip
    finally:
        sys.path.pop(0)
    if not isinstance(model, nn.Module):
        raise UserError(f"{module}:{function} gives a {type(model).__name__}", expected="a torch.nn.Module")
    return Own(model, f"{module}:{function}", *_known(model), known_reshape(model))


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load every weight of a network; see `state_dicts.of_network`, of which nothing may be missing or left over."""
    wanted = model.state_dict()
    state = state_dicts.of_network(state, wanted, path)
    state = {name: value.to(wanted[name].dtype) if name in wanted else value for name, value in state.items()}
    checkpoints.load_strictly(model, state, path)
