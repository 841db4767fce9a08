import subprocess
import sys

from tests.absent import without

BLOCKED = without("torch", "torchvision")


def test_dgl_tf_imports_without_torch():
    subprocess.run([sys.executable, "-c", BLOCKED + "import dgl_tf, common.evaluate, common.prepare"], check=True)


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
