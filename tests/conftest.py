"""What all tests share."""

import importlib
import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# TensorFlow's first session decides the threads within an operation for its whole process, and their number shows in the
# last digits of every sum: tests that compare trainings bit for bit must not depend on which test ran before.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# oneDNN's kernels round otherwise than Eigen's, with which the numbers were recorded; test_train.py has a test with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# TensorFlow from 2.16 on and triton, which PyTorch loads, hold an LLVM each: the process dies where TensorFlow's comes first.
if all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "triton")):
    importlib.import_module("triton")
# How long an example takes is the machine's and no property of the code.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import HealthCheck, settings

    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")
# A shell ignores Ctrl-C for what it runs in the background, and every process of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {
    "common/pytorch": "torch",
    "common/pytorch/test_timm.py": "timm",
    "common/datasets/layouts/test_shipped.py": "timm",
    "bas": "torch",
    "spol": "torch",
    "dgl_tf": "tensorflow",
    "dgl_tf/test_horovod.py": "horovod",
    "grcam": "tensorflow",
    "hostile/test_torch.py": "torch",
    "hostile/test_pickles.py": "torch",
    "hostile/test_tensorflow.py": "tensorflow",
    "hostile/test_grcam.py": "tensorflow",
    "faults": "torch",
}
"""Tests that only an environment with that package can import."""

ABSENT = {folder: package for folder, package in NEEDS.items() if importlib.util.find_spec(package) is None}
collect_ignore = [folder for folder in ABSENT if (Path(__file__).parent / folder).exists()]


LONGEST = (
    "test_readme.py",
    "dgl_tf/test_train.py",
    "dgl_tf/test_training_steps.py",
    "faults/test_faults.py",
    "spol/test_commands.py",
    "own/test_own.py",
)
"""Begun first, so that of two processes neither waits for the other at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_report_header() -> list[str]:
    return [f"not collected: tests/{folder}, {ABSENT[folder]} is not in this environment" for folder in collect_ignore]


@pytest.fixture
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Recorded arrays by file, `golden("bas/boxes")`; see tests/golden/README.md."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load
