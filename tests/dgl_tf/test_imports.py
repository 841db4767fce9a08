import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.system.errors import UserError
from dgl_tf import sessions
from tests.absent import without

BLOCKED = without("torch", "torchvision")


def test_dgl_tf_imports_without_torch():
    subprocess.run([sys.executable, "-c", BLOCKED + "import dgl_tf, common.evaluate, common.prepare"], check=True)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton, which comes with PyTorch, is not here")
def test_tritons_llvm_comes_before_tensorflows():
    """The other way round a newer TensorFlow's process ends in a segmentation fault."""
    code = "import sys, dgl_tf\nassert 'triton' in sys.modules and 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_tensorflow_and_tensorpack_work_together_here():
    code = BLOCKED + (
        "import dgl_tf\nimport tensorflow.compat.v1 as tf\ntf.disable_v2_behavior()\n"
        "from tensorpack.tfutils import gradproc, optimizer\n"
        "x = tf.get_variable('x', [], initializer=tf.ones_initializer())\n"
        "doubled = [gradproc.ScaleGradient([('x', 2)], verbose=False)]\n"
        "made = optimizer.apply_grad_processors(tf.train.GradientDescentOptimizer(0.1), doubled)\n"
        "step = made.minimize(x * x)\n"
        "with tf.Session() as session:\n    session.run(tf.global_variables_initializer())\n    session.run(step)\n"
        "    assert abs(session.run(x) - 0.6) < 1e-6\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("version", ["2.14.1", "1.15.5", "2.22.0", "3.0.0-rc1"])
def test_a_tensorflow_that_was_never_tried_is_refused(version):
    with pytest.raises(UserError, match=f"TensorFlow {version} is installed; expected 2.15 to 2.21"):
        sessions.check_version(version)


def test_the_first_and_the_last_tensorflow_are_taken():
    sessions.check_version("2.15.0")
    sessions.check_version("2.21.0")


def test_a_command_refuses_it_in_a_line(tmp_path):
    fake = tmp_path / "tensorflow" / "compat" / "v1"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("__version__ = '2.14.1'\ndef __getattr__(name):\n    return object\n")
    (fake.parent / "__init__.py").write_text("")
    (fake.parents[1] / "__init__.py").write_text("")
    done = subprocess.run([sys.executable, "-m", "dgl_tf.sessions"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": f"{tmp_path}"}, cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: TensorFlow 2.14.1 is installed")
    assert done.stderr.count("\n") == 1
