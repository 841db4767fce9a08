"""spol/run_train.sh and spol/run_test.sh, as the README calls them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import small_cub

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--resize 72 --crop 64 --epoch 1 --batch_size 6 --no-pretrained"


def run(script, *arguments, cwd, **environment):
    environment = {**os.environ, "WSOL_PYTHON": sys.executable, **environment}
    return subprocess.run(
        [ROOT / "spol" / script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_train_then_test(tmp_path):
    small_cub.make(tmp_path / "CUB")
    done = run(
        "run_train.sh", "cub", "CUB", "run", cwd=tmp_path, CLS=f"{SMALL} --arch mobilenet_v1",
        CAM=f"{SMALL} --backbone mobilenet_v1", MASKS="--processes 1", SEG=f"{SMALL} --backbone mobilenet_v1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("run_test.sh", "cub", "CUB", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "spol mobilenet_v1" in done.stdout
    assert "GT-Known=" in done.stdout
    assert (tmp_path / "run/test/crop/manifest.json").is_file()


def test_too_few_arguments(tmp_path):
    for script in ("run_train.sh", "run_test.sh"):
        done = run(script, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"error: usage: spol/{script}")
        done = run(script, "pets", ".", ".", cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "neither cub nor imagenet" in done.stderr
