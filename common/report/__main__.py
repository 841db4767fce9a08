"""python -m common.report."""

from common.errors import run_command
from common.report.page import main

if __name__ == "__main__":
    run_command(main)
