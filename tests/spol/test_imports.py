import subprocess
import sys


def test_spol_and_common_pytorch_import_without_tensorflow():
    code = "import sys\nsys.modules['tensorflow'] = sys.modules['tensorpack'] = None\nimport spol, common.pytorch.cam"
    subprocess.run([sys.executable, "-c", code], check=True)
