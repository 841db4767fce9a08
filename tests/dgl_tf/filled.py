"""Networks filled as the recorded ones were, and the recorded arrays."""

from pathlib import Path

import numpy as np

from dgl_tf import registry, sessions, weights
from tests.dgl_tf.recorded import GOLDEN, golden, value

__all__ = ["GOLDEN", "fill_network", "golden", "mobilenet_of_three", "relative", "value"]


def fill_network(session, network: registry.Network, seed: int = 0, gain: float = 2.0) -> None:
    shapes = {name: tuple(variable.shape.as_list()) for name, variable in network.variables.items()}
    values = {name: value(name, shape, seed, gain) for name, shape in shapes.items()}
    weights.load_values(session, network.variables, values)


def mobilenet_of_three(path: Path) -> Path:
    """Write a filled MobileNetV1 of three classes as .npz."""
    tf = sessions.tf
    with sessions.new_graph(), sessions.session(1) as session:
        network = registry.build("mobilenetv1", tf.placeholder(tf.float32, [None, None, None, 3]), 3)
        fill_network(session, network, seed=5, gain=2.0)
        weights.write_npz(path, session.run(network.variables))
    return path


def relative(found, expected):
    """The largest difference by the largest expected value."""
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)
