import subprocess
import sys

BLOCKED = "import sys\nsys.modules['torch'] = sys.modules['torchvision'] = None\n"


def test_dgl_tf_imports_without_torch():
    subprocess.run([sys.executable, "-c", BLOCKED + "import dgl_tf, common.evaluate, common.prepare"], check=True)


def test_tensorflow_and_tensorpack_work_together_here():
    code = BLOCKED + (
        "import dgl_tf\nimport tensorflow.compat.v1 as tf\ntf.disable_v2_behavior()\n"
        "from tensorpack.models import Conv2D\n"
        "out = Conv2D('conv', tf.ones([1, 4, 4, 3]), 2, 3)\n"
        "with tf.Session() as session:\n    session.run(tf.global_variables_initializer())\n"
        "    assert session.run(out).shape == (1, 4, 4, 2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
