"""The arrays recorded from DGL's released scripts; needs no framework."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from tests import fill

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "dgl"
KINDS = {"gamma": "scale", "beta": "shift", "moving_mean": "mean", "moving_variance": "var"}


@lru_cache(maxsize=4)
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def value(name: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    """What `fill.py`'s rule gives a TensorFlow variable."""
    leaf = name.rsplit("/", 1)[-1]
    kind = KINDS.get(leaf) or {"mean/EMA": "mean", "variance/EMA": "var"}.get("/".join(name.split("/")[-2:]))
    if kind is None:
        kind = "kernel" if len(shape) > 1 else "bias"
    if kind == "kernel":
        return fill.values(name, shape, kind, inputs=int(np.prod(shape[:-1])), seed=seed, gain=gain)
    return fill.values(name, shape, kind, seed=seed)
