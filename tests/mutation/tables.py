"""The mutants of a module that mutmut leaves out: of what stands outside functions, by mutmut's own operators.

    python tests/mutation/tables.py common/measuring/protocols.py OUT.json TEST...

`campaign` runs it in a copy of the code, where each mutant takes the module's place in turn and the tests run in a child
process of their own.
"""

import difflib
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import libcst
import pytest
from mutmut.mutation.file_mutation import create_mutations, deep_replace

WARM = ("cv2", "hypothesis.extra.numpy", "matplotlib.pyplot", "numpy", "skimage.measure")
"""Imported once; nothing of them is changed by a test."""
LONGEST = 120
"""Seconds that the tests of one mutant may take."""


def status(tests: list[str]) -> int:
    """pytest's exit status in a child process, or the signal that ended it."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1), os.dup2(silent, 2)
        signal.alarm(LONGEST)
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(path: Path, out: Path, tests: list[str]) -> None:
    """Test every mutant, and write each one's changed lines and status."""
    sys.dont_write_bytecode = True  # the file changes within a second
    sys.path.insert(0, os.getcwd())
    for name in WARM:
        import_module(name)
    source = path.read_text()
    module, mutations, *_ = create_mutations(str(path), source)
    if status(tests) != 0:
        raise SystemExit("the tests fail on the code as it stands")
    found = []
    for mutation in mutations:
        if isinstance(mutation.contained_by_top_level_function, libcst.FunctionDef):
            continue
        mutant = deep_replace(module, mutation.original_node, mutation.mutated_node).code
        path.write_text(mutant)
        changed = list(difflib.ndiff(source.splitlines(), mutant.splitlines()))
        before, after = ("\n".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
        found.append({"code": before, "mutant": after, "status": status(tests)})
        print(len(found), found[-1], flush=True)
    path.write_text(source)
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
