"""A MobileNetV1 that `common.pytorch.cam` trained, as a checkpoint for step 1: one classifier, two frameworks.

    python -m grcam.from_cam --checkpoint runs/cam/final.pth --out runs/cam/mobilenetv1.npz

writes tensorpack's .npz under TF-Slim's names, and beside it the classes, the training's seed, and the side of the
images that it was trained on, at which DGL's and GRCAM's commands then show it images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from common.datasets import classes, trained
from common.measuring.geometry import SIDE
from common.pytorch import checkpoints
from common.pytorch.localization import trained_side
from common.runs.provenance import training_of
from common.system.archives import put_arrays
from common.system.errors import UserError, run_command
from common.system.files import write_atomically, write_text
from common.system.options import parse
from common.tensorflow_files import converted
from common.tensorflow_files.converted import Converted

NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@dataclass(frozen=True)
class FromCam:
    """Convert a MobileNetV1."""

    checkpoint: Path
    """A final.pth of common.pytorch.cam."""
    out: Path
    """The .npz to write."""
    overwrite: bool = False
    """Replace another."""


def to_tf_slim(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The arrays of a `CamClassifier`'s state dict by TF-Slim's names, kernels HWIO; undoes `from_tf_slim`."""
    arrays = {}
    for name, tensor in state.items():
        part, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        value = tensor.numpy()
        owner, _, place = part.removeprefix("features.").partition(".")
        kind, _, number = owner.partition("_")
        if owner == "head":
            scope = "MobilenetV1/Logits/Conv2d_1c_1x1"
            arrays[f"{scope}/{'weights' if leaf == 'weight' else 'biases'}"] = (
                value.T[None, None] if leaf == "weight" else value
            )
            continue
        scope = "MobilenetV1/Conv2d_0" if kind == "conv" else f"MobilenetV1/Conv2d_{number}_{kind}"
        if place == "1":
            arrays[f"{scope}/BatchNorm/{NORM[leaf]}"] = value
        elif kind == "depthwise":
            arrays[f"{scope}/depthwise_weights"] = value.transpose(2, 3, 0, 1)
        else:
            arrays[f"{scope}/weights"] = value.transpose(2, 3, 1, 0)
    return arrays


def convert(options: FromCam) -> Path:
    """Convert the checkpoint, and return the file.

    Raises:
        UserError: not such a checkpoint, another architecture, or a file that is there.
    """
    config, state = checkpoints.read_trained(options.checkpoint, "cam")
    checkpoints.need(config, options.checkpoint, "architecture", "class_names")
    if config["architecture"] != "mobilenet_v1":
        raise UserError(f"a checkpoint of {config['architecture']}", where=options.checkpoint, expected="mobilenet_v1")
    if options.out.exists() and not options.overwrite:
        raise UserError("the file is there already", where=options.out, do="choose another --out, or say --overwrite")
    if options.out.suffix != ".npz":
        raise UserError(f"--out {options.out}", expected="a name that ends in .npz")
    arrays = to_tf_slim(state)
    side = trained_side(config).get("input_size", SIDE)
    converted.write(options.out, Converted(classes.names_of(config), side, training_of(config)))
    write_atomically(options.out, lambda file: put_arrays(file, arrays))
    if record := trained.place(options.checkpoint):
        write_text(options.out.with_name(f"{options.out.name}.{trained.FILE}"), record.read_text(encoding="utf-8"))
    print(f"{len(arrays)} arrays, {len(config['class_names'])} classes: {options.out}")
    return options.out


def main() -> None:
    """Run the command line."""
    convert(parse(FromCam, prog="python -m grcam.from_cam", description=__doc__))


if __name__ == "__main__":
    run_command(main)
