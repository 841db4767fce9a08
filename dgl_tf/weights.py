"""Checkpoints in TensorFlow's variables; `common.tensorflow_files.checkpoint` reads the files."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow.compat.v1 as tf

from common.tensorflow_files import checkpoint as files
from common.tensorflow_files.checkpoint import IMAGENET, Checkpoint, open_checkpoint, write_npz

__all__ = ["IMAGENET", "Checkpoint", "assign", "first_line", "load_values", "match", "open_checkpoint", "write_npz"]


def first_line(error: Exception) -> str:
    """The beginning of an error's text; TensorFlow's go on for pages, or say first in another what was wrong."""
    if str(error).startswith("Graph execution error") and isinstance(error.__context__, Exception):
        return first_line(error.__context__)
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def assign(session: tf.Session, variables: Mapping[str, tf.Variable], checkpoint: Checkpoint) -> None:
    """Fill every variable from a checkpoint that must have them all; what else it has is left aside.

    Raises:
        UserError: variables are missing or of another shape, by name.
    """
    load_values(session, variables, files.values_for(_shapes(variables), checkpoint))


def match(
    variables: Mapping[str, tf.Variable], checkpoint: Checkpoint, fresh: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays for the variables that a checkpoint has, and the names of those that it has not; see `files.match`."""
    return files.match(_shapes(variables), checkpoint, fresh)


def _shapes(variables: Mapping[str, tf.Variable]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(variable.shape.as_list()) for name, variable in variables.items()}


def load_values(session: tf.Session, variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Put arrays into variables of a session.

    It is one run for all: TensorFlow prepares the whole graph anew for each set of tensors that a run asks for, and one
    run a variable took a ResNet's 331 variables longer than every map of an image.
    """
    initializers = {name: variables[name].initializer for name in values}
    given = {initializer.inputs[1]: values[name] for name, initializer in initializers.items()}
    session.run(list(initializers.values()), given)
