import subprocess
import sys


def test_bas_and_common_pytorch_import_without_tensorflow():
    code = "import sys\nsys.modules['tensorflow'] = sys.modules['tensorpack'] = None\nimport bas, common.pytorch.cam"
    subprocess.run([sys.executable, "-c", code], check=True)
