import subprocess
import sys


def test_grcam_imports_neither_framework_by_itself():
    code = "import sys, grcam\nassert not {'torch', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
