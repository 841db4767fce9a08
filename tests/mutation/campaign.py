"""Mutation testing of the modules that decide figures, by mutmut: every small change of their code must fail a test.

mutmut changes one thing at a time within functions and methods (operators, numbers, strings, arguments, conditions) and
runs the tests that reach the changed function. It leaves alone what stands outside functions, which is most of the
protocols' module: `tables` tests that with mutmut's operators. Decorated functions other than class methods stay as they
are.
"""

import ast
import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVORS = Path(__file__).with_name("survivors.json")
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PACKAGES = ("common", "bas", "spol", "dgl_tf", "grcam")
LEAST = 90.0
"""Percent of a module's mutants that tests must kill."""
LONGEST = 1800
"""Seconds that a module's run may take."""

MODULES: dict[str, tuple[str, ...]] = {
    "common.measuring.boxes": ("tests/common/measuring/test_boxes.py",),
    "common.measuring.geometry": ("tests/common/measuring/test_geometry.py",),
    "common.measuring.extraction": ("tests/common/measuring/test_extraction.py",),
    "common.measuring.metrics": (
        "tests/common/measuring/test_metrics.py",
        "tests/common/measuring/test_evaluator.py",
    ),
    "common.measuring.ratios": ("tests/common/measuring/test_ratios.py",),
    "common.measuring.pixel_metrics": ("tests/common/measuring/test_pixel_metrics.py",),
    "common.measuring.protocols": ("tests/common/measuring/test_protocols.py",),
    "common.datasets.masks": ("tests/common/datasets/test_masks.py", "tests/common/results/test_scoring.py"),
    "common.results.baselines": ("tests/common/results/test_baselines.py",),
    "common.results.scoring": ("tests/common/results/test_scoring.py",),
    "bas.losses": ("tests/bas/test_losses.py",),
    "spol.losses": ("tests/spol/test_losses.py",),
    "spol.segmentation": ("tests/spol/test_seg.py",),
    "grcam.graph": ("tests/grcam/test_refinement.py",),
    "grcam.revision": ("tests/grcam/test_revision.py",),
}
"""The modules, and the tests that are run against each one's mutants."""

COMMANDS: dict[str, str] = {
    **{module: "common.evaluate" for module in MODULES if module.startswith("common.")},
    "bas.losses": "bas.train",
    "spol.losses": "spol.seg.train",
    "spol.segmentation": "spol.seg.test",
    "grcam.graph": "grcam.generate_predicted_bbox",
    "grcam.revision": "grcam.revise_bbox",
}
"""The command whose figures each module decides; the command imports it, and a test says so."""

TABLES: dict[str, tuple[str, ...]] = {
    "common.measuring.protocols": (
        "tests/common/measuring/test_protocols.py",
        "tests/cross/test_protocols.py",
        "tests/common/measuring/test_metrics.py",
        "tests/common/measuring/test_evaluator.py",
    ),
}
"""Modules whose code outside functions is changed too, and the tests that are run then."""

STEADY = {"CI": "1", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
"""No mutant lives or dies by luck: hypothesis takes the same examples each time, memory that nobody wrote holds neither
0 nor NaN (glibc), and one thread sums."""

KILLED = {1, 3, 24, -24, 36, 152, 255, -9, -11}
SURVIVED = {0, 5, 33}
"""mutmut's exit codes: a test failed, pytest stopped, too much time, a crash; and all passed, or no test reaches it."""


@dataclass(frozen=True)
class Mutant:
    """A change of one function, or outside of all (""): the lines that changed, as they stand and as the mutant has them."""

    module: str
    function: str
    code: str
    mutant: str


@dataclass(frozen=True)
class Verdict:
    """What became of a module's mutants."""

    module: str
    killed: int
    survived: tuple[Mutant, ...]

    @property
    def percent(self) -> float:
        """Killed of all."""
        return 100.0 * self.killed / (self.killed + len(self.survived))


def rows() -> list[dict[str, str]]:
    """The rows of the survivors' file: a mutant's fields, and `why` it lives."""
    return json.loads(SURVIVORS.read_text())


def listed() -> list[Mutant]:
    """The survivors that are known."""
    return [Mutant(**{key: value for key, value in row.items() if key != "why"}) for row in rows()]


def install(folder: Path) -> None:
    """mutmut at its pinned version into a folder of its own, unless it is there; no environment changes.

    Raises:
        RuntimeError: pip could not, or the folder is something else's.
    """
    wanted, marker = REQUIREMENTS.read_text(), folder / "requirements.txt"
    if marker.exists() and marker.read_text() == wanted:
        return
    if marker.exists():
        shutil.rmtree(folder)
    elif folder.exists():
        raise RuntimeError(f"{folder} is there and was not made by this command; name another")
    folder.mkdir(parents=True)
    marker.touch()
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(folder), "-r", str(REQUIREMENTS)], check=False)
    if done.returncode:
        raise RuntimeError(f"pip could not install {REQUIREMENTS} into {folder}")
    marker.write_text(wanted)


def run(module: str, tool: Path, log: Path) -> Verdict:
    """Test a module's mutants, in a temporary copy of the code.

    Args:
        module: one of `MODULES`.
        tool: where `install` put mutmut.
        log: file for what mutmut and the tests print.

    Raises:
        RuntimeError: mutmut stopped, took more than `LONGEST`, or left a mutant untested.
    """
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        copy = Path(name)
        _copy_code(module, copy)
        path = f"{tool.resolve()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
        environment = {**os.environ, **STEADY, "PYTHONPATH": path}
        _run(["-m", "mutmut", "run", "--max-children", "1"], copy, environment, log)
        verdict = verdict_of(module, copy / "mutants")
        if module in TABLES:
            script = ["tests/mutation/tables.py", f"{module.replace('.', '/')}.py", "tables.json", *TABLES[module]]
            _run(script, copy, environment, log)
            verdict = with_tables(verdict, json.loads((copy / "tables.json").read_text()))
        return verdict


def _run(arguments: list[str], copy: Path, environment: dict[str, str], log: Path) -> None:
    command = [sys.executable, *arguments]
    with log.open("a") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=copy, env=environment, start_new_session=True, **streams)
        try:
            status = process.wait(LONGEST)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{arguments[1]} took more than {LONGEST} s; {log} says how far it came") from error
        finally:
            with suppress(ProcessLookupError):  # no process of it stays
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        raise RuntimeError(f"{' '.join(arguments[:2])} stopped with status {status}; {log} says why")


def _copy_code(module: str, copy: Path) -> None:
    for folder in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "source_paths": list(PACKAGES),
        "only_mutate": [f"{module.replace('.', '/')}.py"],
        "pytest_add_cli_args_test_selection": list(MODULES[module]),
        # Each mutant in a process in which no test ran yet: PyTorch's and TensorFlow's threads don't outlive a fork.
        "process_isolation": "forkserver",
    }
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    project = (ROOT / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{lines}\n")


def verdict_of(module: str, mutants: Path) -> Verdict:
    """Read what mutmut left in its folder `mutants`.

    Raises:
        RuntimeError: a mutant was not tested.
    """
    file = mutants / f"{module.replace('.', '/')}.py"
    codes = json.loads(Path(f"{file}.meta").read_text())["exit_code_by_key"]
    odd = {name: code for name, code in codes.items() if code not in KILLED | SURVIVED}
    if odd or not codes:
        raise RuntimeError(f"mutants of {module} without a verdict: {odd or 'all'}")
    functions = dict(_functions(file.read_text()))
    survived = [_mutant(module, name.rpartition(".")[2], functions) for name, code in codes.items() if code in SURVIVED]
    return Verdict(module, len(codes) - len(survived), tuple(survived))


def with_tables(verdict: Verdict, found: list[dict]) -> Verdict:
    """The verdict with the mutants outside functions added, as `tables` wrote them."""
    survived = [Mutant(verdict.module, "", row["code"], row["mutant"]) for row in found if row["status"] == 0]
    return Verdict(verdict.module, verdict.killed + len(found) - len(survived), (*verdict.survived, *survived))


def _functions(source: str) -> Iterator[tuple[str, list[str]]]:
    """Every function's name and lines."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, lines[node.lineno - 1 : node.end_lineno]


def _mutant(module: str, name: str, functions: dict[str, list[str]]) -> Mutant:
    mangled = name.rpartition("__mutmut_")[0]  # x_function, or xǁClassǁmethod
    qualified = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    original = f"{mangled}__mutmut_orig"
    plain = qualified.rpartition(".")[2]
    before = [line.replace(original, plain) for line in functions[original]]
    after = [line.replace(name, plain) for line in functions[name]]
    changed = list(difflib.ndiff(before, after))
    code, mutant = ("\n".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
    return Mutant(module, qualified, code, mutant)


def compare(verdict: Verdict, known: list[Mutant]) -> tuple[list[Mutant], list[Mutant]]:
    """Survivors that aren't listed, and those listed that are killed now."""
    survived, expected = Counter(verdict.survived), Counter(row for row in known if row.module == verdict.module)
    return list((survived - expected).elements()), list((expected - survived).elements())


def as_rows(mutants: list[Mutant]) -> str:
    """Rows for the survivors' file, `why` left to be written."""
    return json.dumps([{**asdict(mutant), "why": ""} for mutant in mutants], indent=2, ensure_ascii=False)
