"""The layers of a network that maps can be made at: found by running it once, not by knowing it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.pytorch.maps.reshape import Reshape, is_map
from common.pytorch.maps.tapping import differentiable, hooked, need_inference, scores_of, unwrapped
from common.system.errors import UserError

ALL = "all"
_SHOWN = 40
_NOT_ACTIVATED = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.Dropout, nn.Dropout2d,
    nn.Identity, nn.Linear,
)  # fmt: skip
"""Modules whose outputs go through an activation before the next layer, which is the map that is meant."""


@dataclass(frozen=True)
class Layer:
    """A module whose output is a map that everything the scores depend on flows through.

    Attributes:
        name: of the module, as `named_modules` has it.
        shape: C, h, w of its map at the size of the images it was tried on.
    """

    name: str
    shape: tuple[int, int, int]


@dataclass
class _Call:
    """Observations of a module."""

    name: str
    calls: int = 0
    node: Any = None
    shape: tuple[int, int, int] | None = None
    tokens: tuple[int, ...] | None = None
    """The output's, where it is no map but has places."""
    output: Tensor | None = None


def layers(
    model: nn.Module, images: Tensor, reshape: Reshape | None = None, scores: Callable[[Any], Tensor] = scores_of
) -> list[Layer]:
    """The layers that `all` stands for and that numbers count, from the last map down; 0 is the last.

    A residual block is one layer, since its branches are not all that the scores depend on. Convolutions and norms with
    an activation behind them are left out, and so is what is called several times in a pass; by name they can be asked
    for all the same, unless they are called several times.

    Args:
        model: in eval mode.
        images: (N, 3, H, W), normalized; the first is looked at.
        reshape: see `common.pytorch.maps.reshape`.
        scores: takes the scores out of what the network returns.

    Raises:
        UserError: there are none.
    """
    model = unwrapped(model)
    need_inference(model)
    with differentiable(model, images[:1]) as given:
        image = given.clone().requires_grad_()
        calls, found = _traced(model, image, reshape, scores)
        cuts = _cuts(found.grad_fn)
        usable = [call for call in calls if call.calls == 1 and call.shape is not None and call.node in cuts]
        if reshape is not None:
            usable = [call for call in usable if call.output is not None and _matters(found, call.output, reshape)]
    blocks = _blocks(model)
    groups: dict[Any, list[_Call]] = {}
    for call in usable:
        groups.setdefault(call.node, []).append(call)
    modules = dict(model.named_modules())
    activated = [group for group in groups.values() if any(_is_map_of_its_own(modules[call.name]) for call in group)]
    kept = activated or list(groups.values())
    named = [_named(group, kept, blocks) for group in kept]
    inside = tuple(f"{call.name}." for call in named if call.name in blocks)
    named = [call for call in named if not call.name.startswith(inside)] if inside else named
    depth = {node: number for number, node in enumerate(cuts)}
    named.sort(key=lambda call: depth[call.node])
    _need_maps(named, [call for call in calls if call.tokens and call.node in depth], depth, reshape)
    return [Layer(call.name, call.shape) for call in named if call.shape is not None]


def _need_maps(named: list[_Call], of_tokens: list[_Call], depth: dict[Any, int], reshape: Reshape | None) -> None:
    """Refuse a network without maps, or whose last layers give something else."""
    later = [call for call in of_tokens if not named or depth[call.node] < depth[named[0].node]]
    if later and reshape is None:
        raise UserError(
            f"the layer {later[0].name} gives {later[0].tokens} an image", expected="a map (C, h, w)",
            do="say by `reshape` how it becomes one: maps.tokens() or maps.channels_last",
        )  # fmt: skip
    if not named:
        raise UserError("no layer of this network gives a map that all of its scores depend on through",
                        do="name a module")  # fmt: skip


def _matters(scores: Tensor, output: Tensor, reshape: Reshape) -> bool:
    """Whether the scores depend on the map that is made of an output: of the last tokens often the class's alone."""
    gradient = torch.autograd.grad(scores.max(), output, retain_graph=True)[0]
    return bool(reshape(gradient).any())


def _traced(model: nn.Module, image: Tensor, reshape: Reshape | None, scores: Callable) -> tuple[list[_Call], Tensor]:
    """Every module's call in one pass over an image with a graph, and the scores."""
    calls: list[_Call] = []

    def watch(name: str) -> Callable:
        call = _Call(name)
        calls.append(call)

        def seen(output: Any) -> None:
            call.calls += 1
            if isinstance(output, Tensor) and output.grad_fn is not None:
                call.node, call.shape = output.grad_fn, _map_shape(output, image, reshape)
                places = output.ndim == 3 or (output.ndim == 4 and not is_map(output, image))
                call.tokens = tuple(output.shape[1:]) if call.shape is None and places else None
                call.output = output

        return seen

    with hooked(model, {name: watch(name) for name, _ in model.named_modules() if name}):
        found = scores(model(image.clone()))  # of which a network may make something else in place
    if found.grad_fn is None:
        raise UserError("the network's scores have no gradient", do="take out its own no_grad or detach")
    return calls, found


def _map_shape(output: Tensor, image: Tensor, reshape: Reshape | None) -> tuple[int, int, int] | None:
    try:
        made = output if reshape is None else reshape(output)
    except (UserError, RuntimeError, ValueError, IndexError):
        return None  # not one of the layers that the reshape is made for
    if not is_map(made, image) or made.shape[2] * made.shape[3] < 2:
        return None
    _, channels, height, width = made.shape
    return channels, height, width


def _cuts(scores: Any) -> dict[Any, None]:
    """Nodes of the graph that every path from the scores to the image passes, from the scores on."""
    order = _topological(scores)
    to_image: dict[Any, int] = {}
    for node in reversed(order):
        ways = [following for following, _ in node.next_functions if following is not None]
        to_image[node] = sum(to_image[following] for following in ways) if ways else 1
    from_scores = dict.fromkeys(order, 0)
    from_scores[scores] = 1
    for node in order:
        for following, _ in node.next_functions:
            if following is not None:
                from_scores[following] += from_scores[node]
    return {node: None for node in order if from_scores[node] * to_image[node] == to_image[scores]}


def _topological(root: Any) -> list[Any]:
    """Nodes below a root, each before those it leads to."""
    done, order, stack = set(), [], [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following is not None]
    return order[::-1]


def _is_map_of_its_own(module: nn.Module) -> bool:
    leaf = next(module.children(), None) is None
    return not isinstance(module, nn.Sequential | nn.ModuleList) and not (leaf and isinstance(module, _NOT_ACTIVATED))


def _blocks(model: nn.Module) -> set[str]:
    """Names of modules in a Sequential or ModuleList that have parts and are neither, the innermost of them."""
    containers = {name for name, module in model.named_modules() if isinstance(module, nn.Sequential | nn.ModuleList)}
    with_parts = {name for name, module in model.named_modules() if next(module.children(), None) is not None}
    found = {name for name in with_parts - containers if name.rpartition(".")[0] in containers}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def _named(group: list[_Call], groups: Sequence[list[_Call]], blocks: set[str]) -> _Call:
    """The block among modules that give one tensor; else the outermost that holds no other layer."""
    others = [call.name for other in groups if other is not group for call in other]
    inner = [call for call in group if not any(name.startswith(f"{call.name}.") for name in others)]
    return min([call for call in group if call.name in blocks] or inner or group, key=lambda call: call.name.count("."))


def resolved(
    model: nn.Module, wanted: Sequence[str | int | nn.Module], listing: Callable[[], list[Layer]]
) -> list[str]:
    """Layers by name, number from the last, or `all`, as names, each once.

    Args:
        model: unwrapped.
        wanted: at least one; modules themselves count as their names.
        listing: gives `layers`; called where numbers, `all` or an error need it.

    Raises:
        UserError: no such layer, with the layers that there are.
    """
    modules = {name for name, _ in model.named_modules() if name}
    by_module = {module: name for name, module in model.named_modules() if name}
    names: list[str] = []
    for one in wanted:
        if isinstance(one, nn.Module) and one in by_module:
            names.append(by_module[one])
        elif one == ALL:
            names += [layer.name for layer in listing()]
        elif isinstance(one, str) and one in modules:
            names.append(one)
        else:
            names.append(_numbered(one, listing()))
    if not names:
        raise UserError("no layer is asked for", expected="names, numbers or all")
    return list(dict.fromkeys(names))


def _numbered(one: str | int | nn.Module, known: list[Layer]) -> str:
    if str(one).isdecimal() and int(str(one)) < len(known):
        return known[int(str(one))].name
    shown = ", ".join(f"{number} {layer.name}" for number, layer in enumerate(known[:_SHOWN]))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    what = f"such {type(one).__name__} in this network" if isinstance(one, nn.Module) else f"layer {one!r}"
    raise UserError(f"there is no {what}", expected=f"all, or of {shown}{more}")
