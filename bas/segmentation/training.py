"""What the three trainings share: parameter groups and the learning rates' decay."""

from collections.abc import Callable, Sequence

from torch import nn


def poly(rates: Sequence[float], steps: int) -> Callable[[int, int], list[float]]:
    """(epoch, step) to each group's rate: rate * (1 - step / steps) ** 0.9, frozen from `steps` on."""

    def at(epoch: int, step: int) -> list[float]:
        factor = (1 - min(step, steps - 1) / steps) ** 0.9
        return [rate * factor for rate in rates]

    return at


def bas_groups(network: nn.Module, biases: bool = False) -> list[list[nn.Parameter]]:
    """Backbone, and the two heads. Batch norm's biases are in neither unless asked for: they keep their values."""
    named = [(name, value) for name, value in network.named_parameters() if biases or "weight" in name]
    return [[value for name, value in named if ("classifier" in name) == head] for head in (False, True)]


def cam_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """Backbone, biases included, and the classifier."""
    head = list(network.classifier.parameters())
    return [list(network.trunk.parameters()), head]


def irn_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The edge branch's and the displacement branch's parameters."""
    named = list(network.named_parameters())
    return [[value for name, value in named if name.startswith(kind)] for kind in ("fc_edge", "fc_dp")]
