import subprocess
import sys

from tests.absent import without


def test_spol_and_common_pytorch_import_without_tensorflow():
    code = without("tensorflow", "tensorpack") + "import spol, common.pytorch.cam"
    subprocess.run([sys.executable, "-c", code], check=True)
