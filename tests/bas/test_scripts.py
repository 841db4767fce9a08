"""bas/run_train.sh and bas/run_test.sh, as the README calls them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import small_cub

ROOT = Path(__file__).resolve().parents[2]


def run(script, *arguments, cwd):
    environment = {**os.environ, "WSOL_PYTHON": sys.executable}
    return subprocess.run([ROOT / "bas" / script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_train_then_test(tmp_path):
    small_cub.make(tmp_path / "CUB")
    done = run(
        "run_train.sh", "mobilenet", "CUB", "--pretrained", "none", "--epochs", "1", "--augmentation.resize", "72",
        "--augmentation.crop", "64", "--out", tmp_path / "run", "--warmup-steps", "9", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("run_test.sh", "run/final.pth", "CUB", "test", "--crops", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bas mobilenet" in done.stdout
    assert (tmp_path / "test/crop/manifest.json").is_file()


def test_too_few_arguments(tmp_path):
    for script in ("run_train.sh", "run_test.sh"):
        done = run(script, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"error: usage: bas/{script}")
