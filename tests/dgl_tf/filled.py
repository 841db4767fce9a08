"""Networks filled as the recorded ones were, and the recorded arrays."""

import numpy as np

from dgl_tf import registry, weights
from tests.dgl_tf.recorded import GOLDEN, golden, value

__all__ = ["GOLDEN", "fill_network", "golden", "relative", "value"]


def fill_network(session, network: registry.Network, seed: int = 0, gain: float = 2.0) -> None:
    shapes = {name: tuple(variable.shape.as_list()) for name, variable in network.variables.items()}
    values = {name: value(name, shape, seed, gain) for name, shape in shapes.items()}
    weights.load_values(session, network.variables, values)


def relative(found, expected):
    """The largest difference by the largest expected value."""
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)
