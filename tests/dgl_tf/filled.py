"""Networks filled as the recorded ones were, and the recorded arrays."""

from dgl_tf import registry, weights
from tests.dgl_tf.recorded import GOLDEN, golden, value

__all__ = ["GOLDEN", "fill_network", "golden", "value"]


def fill_network(session, network: registry.Network, seed: int = 0, gain: float = 2.0) -> None:
    shapes = {name: tuple(variable.shape.as_list()) for name, variable in network.variables.items()}
    values = {name: value(name, shape, seed, gain) for name, shape in shapes.items()}
    weights.load_values(session, network.variables, values)
