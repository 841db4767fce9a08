import subprocess
import sys

import pytest

from tests.absent import without


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_grcam_imports_neither_framework_by_itself():
    run("import sys, grcam, grcam.revise_bbox, grcam.pseudo_bbox.rebuild_val\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("module", "absent"), [
    ("grcam.generate_predicted_bbox", ("torch", "torchvision")),
    ("grcam.pseudo_bbox.main", ("tensorflow", "tensorpack")),
    ("grcam.from_cam", ("tensorflow", "tensorpack")),
])  # fmt: skip
def test_each_step_needs_its_own_framework_alone(module, absent):
    pytest.importorskip("torch")
    run(without(*absent) + f"import {module}")
