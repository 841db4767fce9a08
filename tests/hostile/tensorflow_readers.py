"""Readers of `readers.py` that need TensorFlow: DGL's checkpoints, and the files between GRCAM's steps."""

import importlib.util
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from safetensors.numpy import save_file

from dgl_tf import records, weights

ARRAYS = {"conv/W": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "linear/W": np.ones((4, 2), np.float32)}


def _assign(name: str):
    def read(world: Path) -> None:
        checkpoint = weights.open_checkpoint(world / name)
        with tf.Graph().as_default(), tf.Session() as session:
            variables = {key: tf.get_variable(key, value.shape) for key, value in ARRAYS.items()}
            weights.assign(session, variables, checkpoint)

    return read


def _record(world: Path) -> None:
    records.read(world / "training")


READERS = [
    ("dgl-npz", "final.npz", _assign("final.npz")),
    ("dgl-safetensors", "final.safetensors", _assign("final.safetensors")),
    ("dgl-index", "tf/model-1.index", _assign("tf/model-1")),
    ("dgl-data", "tf/model-1.data-00000-of-00001", _assign("tf/model-1")),
    ("dgl-single-file", "inception_v3.ckpt", _assign("inception_v3.ckpt")),
    ("dgl-state", "tf/checkpoint", _assign("tf")),
    ("dgl-record", "training/training.json", _record),
]
if importlib.util.find_spec("torch") is not None:  # importing grcam's packages takes both frameworks
    from grcam import handover

    READERS += [
        ("grcam-classes", "class.txt", lambda world: handover.read_classes(world / "class.txt", 200)),
        ("grcam-boxes", "box.txt", lambda world: handover.read_boxes(world / "box.txt")),
    ]


def make(world: Path) -> None:
    """Their good files."""
    np.savez(world / "final.npz", **ARRAYS)
    save_file(ARRAYS, world / "final.safetensors")
    (world / "tf").mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in ARRAYS.items():
            tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(world / "tf" / "model"), global_step=1, write_meta_graph=False)
        single = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        single.save(session, str(world / "inception_v3.ckpt"), write_meta_graph=False, write_state=False)
    training = records.Training("vgg", ("a", "b"), {"name": "cub"}, {"th": 0.1})
    records.write(world / "training", training)
    (world / "class.txt").write_text("a.jpg,1,1,7\nb.jpg,0,1,9\n")
    (world / "box.txt").write_text("a.jpg,1, 20, 3, 40\nb.jpg,0, 223, 0, 223\n")
