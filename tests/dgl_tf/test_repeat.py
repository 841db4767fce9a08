"""python -m common.repeat of a DGL localization, whose maps TensorFlow makes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import repeat
from common.repeat import Repeat
from tests import small_cub

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_localization_is_repeated(tmp_path):
    small_cub.make(tmp_path / "CUB", test=1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["WSOL_WEIGHTS"] = os.environ.get("WSOL_WEIGHTS", str(ROOT / "weights"))
    done = subprocess.run(
        [sys.executable, "-m", "dgl_tf.test", "--load", "imagenet:mobilenetv1", "--data.name", "cub", "--data.root", "CUB",
         "--out", "found", "--crops", "1", "--threads", "1"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert repeat.repeat(Repeat(tmp_path / "found", tmp_path / "again")) == []
    assert len(list((tmp_path / "again").glob("*/maps/*/*.npy"))) == 6
