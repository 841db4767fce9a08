"""Classifiers of one's own by name: a library's network, or a function that builds one, and a state dict for it."""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.datasets.known import imagenet_names
from common.pytorch import checkpoints, state_dicts
from common.system.errors import UserError, printable
from wsol.classifiers import Own, checked_images, known_images, known_reshape

_TURNED_NORMALIZATION = ("googlenet", "inception_v3")
"""Networks of torchvision that turn ImageNet's normalization into 0.5 and 0.5 where they begin with its weights, and
not where they are built without; a state dict doesn't say which."""


@torch.inference_mode(False)
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
        if state and name in _TURNED_NORMALIZATION and mean is None and std is None:
            print(f"note: {checkpoint}: images are normalized with 0.5 and 0.5, as {name} does that was begun with "
                  "torchvision's weights; of another, say mean and std")  # fmt: skip
    else:
        own = _built(library, name, mean is not None and std is not None)
    if state is not None:
        _fill(own.model, state, Path(checkpoint))
    side = own.input_size if input_size is None else input_size
    images = checked_images(side, own.mean if mean is None else mean, own.std if std is None else std)
    return Own(own.model, own.architecture, *images, own.reshape, own.class_names)


def _classes_of(state: dict[str, Tensor], classifiers: Sequence[str]) -> int:
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
            options["num_classes"] = _classes_of(state, (named,) if isinstance(named, str) else named)
        if input_size is not None and timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
            options["img_size"] = input_size
        model = timm.create_model(name, pretrained=state is None, **options)
    except UserError:
        raise
    except Exception as error:  # timm passes on whatever its hub client raises
        raise UserError(f"timm can't make {name!r} ({type(error).__name__}: {printable(str(error))[:200]})",
                        do="see timm.list_models(); weights are fetched from the network") from error  # fmt: skip
    side, mean, std = known_images(model, input_size)
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
            extra = {"init_weights": False, "aux_logits": False} if name in _TURNED_NORMALIZATION else {}
            with torch.device("meta"):
                layers = dict(library.get_model(name, weights=None, **extra).named_modules())
            linear = [path for path, module in layers.items() if isinstance(module, nn.Linear | nn.Conv2d)]
            model = library.get_model(name, weights=None, num_classes=_classes_of(state, linear[-1:]), **extra)
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision's weights of {name} can't be had ({printable(str(error))[:200]})",
                        do="fetch them where there is a network") from error  # fmt: skip
    seen = weights.transforms()
    names = tuple(weights.meta["categories"]) if state is None else None
    mean, std = tuple(seen.mean), tuple(seen.std)
    if state is not None and name in _TURNED_NORMALIZATION:
        mean = std = (0.5,) * 3
    return Own(model, f"torchvision:{name}", int(seen.crop_size[0]), mean, std, known_reshape(model), names)


def _without_auxiliaries(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without those of auxiliary classifiers, which have no part in the scores and often other classes."""
    if name not in _TURNED_NORMALIZATION:
        return state
    return {key: value for key, value in state.items() if not re.search(r"(^|\.)(AuxLogits|aux[12])\.", key)}


def _built(module: str, function: str, said: bool) -> Own:
    """Call a function of the user's own, which is looked for in the current folder too; `said` as of `known_images`."""
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
    return Own(model, f"{module}:{function}", *known_images(model, said=said), known_reshape(model))


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load every weight of a network; see `state_dicts.of_network`, of which nothing may be missing or left over."""
    wanted = model.state_dict()
    state = state_dicts.of_network(state, wanted, path)
    state = {name: value.to(wanted[name].dtype) if name in wanted else value for name, value in state.items()}
    checkpoints.load_strictly(model, state, path)
