"""One forward pass of a classifier with some modules' outputs kept, from the first of which on a graph is built."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from common.pytorch.maps.frozen_norm import FrozenNorm
from common.system.errors import UserError


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers.

    Raises:
        UserError: a network that can't be tapped.
    """
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("a TorchScript network's layers can't be tapped", do="give the network that was scripted")
    return model


_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_OF_LOCKS = Lock()


@contextmanager
def one_at_a_time(model: nn.Module) -> Iterator[None]:
    """Wait for other threads' maps of a network, whose hooks would see this thread's outputs too."""
    with _OF_LOCKS:
        lock = _LOCKS.setdefault(model, RLock())
    with lock:
        yield


def need_inference(model: nn.Module) -> None:
    """Refuse a network in training mode, whose dropout is random and whose batch norm mixes images.

    Raises:
        UserError: some module is.
    """
    for name, module in model.named_modules():
        if module.training:
            raise UserError(f"the network is in training mode ({name or type(module).__name__})",
                            do="call model.eval() first")  # fmt: skip


def scores_of(output: Any) -> Tensor:
    """The scores (N, K) in what a classifier returns: they alone, first of a tuple, or under `logits` or `scores`.

    Raises:
        UserError: there are none.
    """
    found = output
    if isinstance(output, Mapping):
        found = next((output[key] for key in ("logits", "scores") if key in output), None)
    elif not isinstance(output, Tensor):
        named = next((getattr(output, key) for key in ("logits", "scores") if hasattr(output, key)), None)
        found = named if named is not None else output[0] if isinstance(output, tuple | list) and output else None
    if not isinstance(found, Tensor) or found.ndim != 2:
        kind = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(output).__name__}"
        raise UserError(f"the network returns {kind}", expected="scores (N, classes)",
                        do="give a function that takes them out as `scores`")  # fmt: skip
    return found


_LAST_OPERATIONS = {
    "SoftmaxBackward0": "a softmax", "LogSoftmaxBackward0": "a log-softmax", "SigmoidBackward0": "a sigmoid",
    "LogSigmoidBackward0": "a log-sigmoid",
}  # fmt: skip
_SAME_VALUES = ("CloneBackward0", "ToCopyBackward0", "AliasBackward0", "ViewBackward0", "UnsafeViewBackward0")


def need_unnormalized(scores: Tensor) -> None:
    """Refuse probabilities in place of scores, by the operation that made them.

    Raises:
        UserError: a softmax or sigmoid is the network's last operation.
    """
    node: Any = scores.grad_fn
    while node is not None and node.name() in _SAME_VALUES:
        node = node.next_functions[0][0]
    if node is not None and node.name() in _LAST_OPERATIONS:
        raise UserError(
            f"the network ends in {_LAST_OPERATIONS[node.name()]}", expected="scores as they are before it",
            do="take it off the network, such as by torch.nn.Identity() in its place",
        )  # fmt: skip


_SUM_TO_ONE = 1e-3
"""Greatest distance of a sum of probabilities from 1, as 16-bit floats have it."""


def need_no_sums_of_one(scores: Tensor) -> None:
    """Refuse probabilities in place of scores (N, K) by their sums, whatever made them.

    Args:
        scores: of several images, since those of one may sum to 1 by chance.

    Raises:
        UserError: the classes' numbers sum to 1, or those that they are the logarithms of, as where a mean is taken of
            several networks' probabilities.
    """
    for values, what in ((scores, "probabilities"), (scores.exp(), "logarithms of probabilities")):
        sums = bool((values >= 0).all()) and bool(((values.sum(dim=1) - 1).abs() < _SUM_TO_ONE).all())
        if sums and values.shape[1] > 1:
            raise UserError(f"the network gives {what}", expected="scores as they are before a softmax",
                            do="take the softmax off the network; of several, average the scores")  # fmt: skip


def _as_written() -> AbstractContextManager[Any]:
    """Compiled parts run as written, since hooks that come after torch.compile are not part of what it compiled.

    The compiler, whose import takes longer than most maps, is left alone where nothing has imported it.
    """
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _outside(images: Tensor, model: nn.Module) -> Tensor:
    """Images (N, 3, H, W) that a graph can be built on, whatever mode they were made in, and as precise as weights."""
    of_autocast = torch.is_autocast_enabled(images.device.type)
    weight = next((one for one in model.parameters() if one.is_floating_point()), None)
    given = images.clone() if images.is_inference() else images.detach()
    return given.to(weight.dtype) if of_autocast and weight is not None else given


@contextmanager
def differentiable(model: nn.Module, images: Tensor) -> Iterator[Tensor]:
    """Gradients by activations and none by weights, whatever mode the caller is in; compiled parts run as written.

    Autocast is left: bfloat16 moves the boxes of 15 to 90 % of photographs (benchmarks/README.md). Other threads that
    want the same of this network wait.

    Yields:
        The images (N, 3, H, W), on which a graph can be built.
    """
    with one_at_a_time(model):
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in weights:
            weight.requires_grad_(False)
        autocast = torch.autocast(images.device.type, enabled=False)
        try:
            with torch.inference_mode(False), torch.enable_grad(), _as_written(), FrozenNorm():
                given = _outside(images, model)
                with autocast:
                    yield given
        finally:
            for weight in weights:
                weight.requires_grad_(True)


@contextmanager
def hooked(model: nn.Module, names: Mapping[str, Callable]) -> Iterator[None]:
    """Functions of (output) that modules' outputs are replaced with while this lasts; None leaves an output alone."""
    modules = dict(model.named_modules())

    def hook(replace: Callable) -> Callable:
        return lambda _module, _inputs, output: replace(output)

    handles = [modules[name].register_forward_hook(hook(replace)) for name, replace in names.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tapped(
    model: nn.Module, images: Tensor, names: list[str], scores: Callable[[Any], Tensor] = scores_of
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores (N, K) as float32 and the modules' outputs, which gradients by can be taken.

    Call it in `differentiable` with the images that this gives.

    The graph begins at the first of the modules. Each hands a copy on, so that what a later in-place operation makes of
    it neither changes the output kept here nor cuts it off.

    Raises:
        UserError: a module that was called not at all or several times, or gives no tensor of numbers; a network that
            gives probabilities.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def replace(output: Any) -> Tensor:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                raise UserError(f"the layer {name} gives a {type(output).__name__}", expected="a tensor",
                                do="take another layer")  # fmt: skip
            if name in kept:
                raise UserError(f"the layer {name} is called several times in one pass",
                                do="name the block that it is in")  # fmt: skip
            kept[name] = output if output.requires_grad else output.detach().requires_grad_()
            return kept[name].clone()

        return replace

    with hooked(model, {name: keep(name) for name in names}):
        found = scores(model(images))
    if lacking := [name for name in names if name not in kept]:
        raise UserError(f"the layer {lacking[0]} is not called when the network runs", do="take another layer")
    need_unnormalized(found)
    if not found.requires_grad:
        raise UserError(f"no gradient leads from the scores back to {names[-1]}",
                        do="take out the network's own no_grad or detach, or take a later layer")  # fmt: skip
    return found.float(), kept
