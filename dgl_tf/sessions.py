"""TensorFlow's graphs and sessions, as this project runs them. Importing it turns TensorFlow 2's behaviour off."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow.compat.v1 as tf

from common.system.errors import UserError

VERSIONS = ((2, 15), (2, 21))
"""The first and the last TensorFlow that the recorded numbers were compared on."""


def check_version(version: str) -> None:
    """Refuse a TensorFlow that this code was never run on.

    Args:
        version: such as `2.15.1`.

    Raises:
        UserError: an older one than the first of `VERSIONS`, or a newer one than the last.
    """
    first, last = VERSIONS
    if not first <= tuple(int(part) for part in version.split(".")[:2]) <= last:
        raise UserError(
            f"TensorFlow {version} is installed",
            expected=f"{first[0]}.{first[1]} to {last[0]}.{last[1]}, which the recorded numbers were compared on",
            do="make the environment with environments/create.sh dgl_tf, or use --framework torch for GRCAM's maps",
        )


check_version(tf.__version__)
tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()


@contextmanager
def new_graph() -> Iterator[tf.Graph]:
    """Make a fresh graph the default one, for a network and its session."""
    with tf.Graph().as_default() as graph:
        yield graph


def session(threads: int | None = None) -> tf.Session:
    """A session of the current graph that takes GPU memory as it needs it.

    Args:
        threads: of the CPU, for one operation and between operations; by default TensorFlow's choice.
    """
    return tf.Session(config=session_config(threads))


def session_config(threads: int | None = None, towers: int = 1) -> tf.ConfigProto:
    """Settings of this project's sessions: GPU memory as it is needed, threads of their own where a number is given.

    Args:
        threads: of the CPU; by default TensorFlow's choice. Those within an operation are what the first session of
            the process asked for.
        towers: copies of the network in the graph. With several a single thread between operations may wait for ever
            for what another tower holds.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    if threads:
        # Else all sessions of a process share the threads between operations that the first one asked for.
        config.use_per_session_threads = True
        config.intra_op_parallelism_threads = threads
        config.inter_op_parallelism_threads = threads if towers == 1 else max(2 * towers, threads)
    return config
