"""python -m common.report."""

from common.report.page import main
from common.system.errors import run_command

if __name__ == "__main__":
    run_command(main)
