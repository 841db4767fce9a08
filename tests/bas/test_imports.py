import subprocess
import sys

import pytest

from tests.absent import without


@pytest.mark.slow
def test_bas_and_common_pytorch_import_without_tensorflow():
    code = without("tensorflow", "tensorpack") + "import bas, common.pytorch.cam"
    subprocess.run([sys.executable, "-c", code], check=True)
