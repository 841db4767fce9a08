"""`common` outside `common.pytorch` works where no framework is installed."""

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import common
from tests.absent import without

COMPILED = () if importlib.util.find_spec("numba") else ("common.measuring.component_tree",)
"""Behind the optional extra `fast`."""
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(common.__path__, "common.")
    if not module.name.startswith(("common.pytorch", *COMPILED))
)
BLOCKED = without("torch", "torchvision", "timm", "tensorflow", "tensorpack")


def test_modules_are_found():
    assert {"common.measuring.metrics", "common.evaluate", "common.datasets.layouts.cub", "common.weights"} <= set(
        MODULES
    )


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "tensorflow", "scipy.stats", "matplotlib.pyplot"])
def test_no_framework_is_imported(package):
    """Nor what is slow to import, for the sake of `--help`."""
    code = "".join(f"import {name}\n" for name in MODULES) + f"import sys\nassert '{package}' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_it_imports_without_any_framework():
    subprocess.run([sys.executable, "-c", BLOCKED + "".join(f"import {name}\n" for name in MODULES)], check=True)
