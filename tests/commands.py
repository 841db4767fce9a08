"""Commands run in the tests' own process, where another one would import a framework again."""

import importlib
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from common.system.errors import run_command


class Done(NamedTuple):
    """A command's exit status, and what it printed and said."""

    returncode: int
    stdout: str
    stderr: str


def run(module: str, *arguments: object) -> Done:
    """`python -m module arguments`, but for the new process."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [module, *map(str, arguments)])
        with redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
            run_command(importlib.import_module(module).main)
    return Done(ended.value.code, printed.getvalue(), said.getvalue())
