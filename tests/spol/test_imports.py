import subprocess
import sys

import pytest

from tests.absent import without


@pytest.mark.slow
def test_spol_and_common_pytorch_import_without_tensorflow():
    code = without("tensorflow", "tensorpack") + "import spol, common.pytorch.cam"
    subprocess.run([sys.executable, "-c", code], check=True)
