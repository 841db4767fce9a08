"""Classifiers of one's own: a library's network or a function that builds one, and a plain state dict for it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.datasets.known import imagenet_names
from common.pytorch import checkpoints, maps
from common.pytorch.data import normalized
from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import scores_of
from common.pytorch.runtime import for_inference, pick_device
from common.system.errors import UserError, printable
from wsol.torch_methods import ByMaps

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TOKENS: dict[str, Callable[[], Reshape]] = {
    "VisionTransformer": maps.tokens, "SwinTransformer": lambda: maps.channels_last,
}  # fmt: skip
"""Reshapes by class of timm's and torchvision's networks without maps; others are refused by the maps themselves."""


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
    """

    model: nn.Module
    architecture: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reshape: Any = None
    class_names: tuple[str, ...] | None = None

    def as_method(self, method: str, layer: str | int | None, names: tuple[str, ...] | None, device: str) -> ByMaps:
        """Put the network into inference on a device, for a method."""
        where = pick_device(device)
        model = for_inference(self.model, where)
        if self.input_size < 1:
            raise UserError(f"input size {self.input_size}", expected="1 or more")
        dtype = _precision(model)
        with torch.no_grad():
            count = scores_of(
                model(torch.zeros(1, 3, self.input_size, self.input_size, device=where, dtype=dtype))
            ).shape[1]
        names = names or self.class_names
        if names is not None and len(names) != count:
            raise UserError(f"{len(names)} class names", expected=f"{count}, as the network has classes")

        def normalize(images: Tensor) -> Tensor:
            return normalized(images, self.mean, self.std, where).to(dtype)

        layer = 0 if layer is None else layer
        return ByMaps(
            model, method, layer, normalize, self.architecture, names, count, where, self.input_size, self.reshape
        )


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
    outputs = None if state is None else _outputs(state)
    if library == "timm":
        own = _timm(name, outputs)
    elif library == "torchvision":
        own = _torchvision(name, outputs)
    else:
        own = _built(library, name)
    if state is not None:
        _fill(own.model, state, Path(checkpoint))
    side, mean, std = input_size or own.input_size, tuple(mean or own.mean), tuple(std or own.std)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(f"mean {mean}, std {std}", expected="three numbers each, deviations above 0")
    return Own(own.model, own.architecture, side, mean, std, own.reshape, own.class_names)


def _outputs(state: dict[str, Tensor]) -> int:
    """Number of classes of a state dict's last two-dimensional weight: the linear layer's."""
    weights = [value for name, value in state.items() if name.endswith("weight") and value.ndim == 2]
    if not weights:
        weights = [value for name, value in state.items() if name.endswith("weight") and value.ndim == 4]
    if not weights:
        raise UserError("no linear layer in this state dict", expected="a classifier's weights")
    return len(weights[-1])


def _timm(name: str, outputs: int | None) -> Own:
    try:
        import timm
    except ImportError as error:
        raise UserError("timm is not installed here", do="pip install timm") from error
    try:
        options: dict[str, Any] = {} if outputs is None else {"num_classes": outputs}
        model = timm.create_model(name, pretrained=outputs is None, **options)
    except Exception as error:  # timm passes on whatever its hub client raises
        raise UserError(f"timm can't make {name!r} ({type(error).__name__}: {printable(str(error))[:200]})",
                        do="see timm.list_models(); weights are fetched from the network") from error  # fmt: skip
    data = timm.data.resolve_model_data_config(model)
    names = imagenet_names() if outputs is None else None
    names = names if names and model.num_classes == len(names) else None
    reshape = TOKENS.get(type(model).__name__)
    return Own(model, f"timm:{name}", int(data["input_size"][-1]), tuple(data["mean"]), tuple(data["std"]),
               reshape() if reshape else None, names)  # fmt: skip


def _torchvision(name: str, outputs: int | None) -> Own:
    import torchvision.models as library

    if name not in library.list_models(module=library):
        raise UserError(f"torchvision has no classifier {name!r}", do="see torchvision.models.list_models()")
    weights = library.get_model_weights(name).DEFAULT
    try:
        if outputs is None:
            model = library.get_model(name, weights=weights)
        else:
            extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            model = library.get_model(name, weights=None, num_classes=outputs, **extra)
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision's weights of {name} can't be had ({printable(str(error))[:200]})",
                        do="fetch them where there is a network") from error  # fmt: skip
    seen = weights.transforms()
    names = tuple(weights.meta["categories"]) if outputs is None else None
    reshape = TOKENS.get(type(model).__name__)
    return Own(model, f"torchvision:{name}", int(seen.crop_size[0]), tuple(seen.mean), tuple(seen.std),
               reshape() if reshape else None, names)  # fmt: skip


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
    return Own(model, f"{module}:{function}", 224, *IMAGENET)


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load every tensor, under the prefixes that wrappers leave; nothing may be missing or left over."""
    wanted = model.state_dict()
    for prefix in ("", "module.", "model.", "_orig_mod.", "net.", "module.model."):
        plain = {name.removeprefix(prefix): value for name, value in state.items()}
        if plain.keys() & wanted.keys():
            state = plain
            break
    if "n_averaged" not in wanted:  # torch.optim.swa_utils.AveragedModel's counter
        state.pop("n_averaged", None)
    state = {name: value.to(wanted[name].dtype) if name in wanted else value for name, value in state.items()}
    checkpoints.load_strictly(model, state, path)
