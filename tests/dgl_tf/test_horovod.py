"""Training by two processes; only where Horovod is installed, which CI does not build."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from dgl_tf import records
from tests import small_cub

ROOT = Path(__file__).resolve().parents[2]


def trained(root: Path, out: Path, processes: int, epochs: int = 1, arch: str = "vgg") -> dict[str, np.ndarray]:
    command = [sys.executable, "-m", "dgl_tf.train", "--arch", arch, "--data.name", "cub", "--data.root", str(root),
               "--data.split", "train", "--out", str(out), "--epochs", str(epochs), "--steps-per-epoch", "2",
               "--batch-size", "8", "--final-size", "32", "--workers", "0", "--base-lr", "0.001"]  # fmt: skip
    if processes > 1:
        launch = [sys.executable, "-m", "horovod.runner.launch", "-np", str(processes), "--gloo"]
        command = [*launch, *command, "--horovod"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    with np.load(out / records.FINAL) as file:
        return {name: file[name] for name in file.files}


def test_two_processes_train_as_one_does(tmp_path):
    """VGG has no batch norm, so that two batches of four, averaged, are one of eight."""
    root = small_cub.make(tmp_path / "CUB")
    one, two = (trained(root, tmp_path / str(count), count) for count in (1, 2))
    for name, expected in one.items():
        np.testing.assert_allclose(two[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def test_two_processes_go_on_where_they_were_stopped(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    whole = trained(root, tmp_path / "whole", 2, epochs=2, arch="mobilenetv1")
    run = tmp_path / "run"
    trained(root, run, 2, epochs=2, arch="mobilenetv1")
    (run / records.FINAL).unlink()
    first = tf.train.get_checkpoint_state(str(run)).all_model_checkpoint_paths[0]
    tf.train.update_checkpoint_state(str(run), first)  # as a stop in the second epoch leaves it
    again = trained(root, run, 2, epochs=2, arch="mobilenetv1")
    assert all(np.array_equal(again[name], whole[name]) for name in whole)
