"""Run every benchmark and write what they print, with the machine, into RESULTS.md.

python -m benchmarks
python -m benchmarks bas spol --out mine.md
"""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.runs.provenance import provenance
from common.system.errors import UserError, run_command
from common.system.files import write_text

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Run:
    """Run benchmarks one after another, each in a process of its own, and write RESULTS.md."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Only these; by default all."""
    out: Path = HERE / "RESULTS.md"
    """The file to write; it is replaced."""


def available() -> list[str]:
    """Names of the benchmarks, one a script in this folder but for those that write the READMEs."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith(("_", "readme")))


def machine() -> str:
    """Processor, cores and accelerator in a line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, {_accelerator()}"


def _accelerator() -> str:
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "no GPU"
    return found.stdout.splitlines()[0].split("(")[0].strip() if found.returncode == 0 and found.stdout else "no GPU"


def measure(name: str) -> tuple[str, float, int]:
    """Run a benchmark, and return what it prints, its seconds and its exit status; progress goes to the screen."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip(), time.monotonic() - start, done.returncode


def main() -> int:
    """Run the command line; 1 where a benchmark failed, its numbers then differed from the released procedure's."""
    options = tyro.cli(Run, prog="python -m benchmarks", description=__doc__)
    for name in options.names:
        if name not in available():
            raise UserError(f"no benchmark is called {name!r}", expected=", ".join(available()))
    made_by = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made_by["versions"].items())
    parts = [
        "# Measured by `python -m benchmarks`",
        f"{machine()}; commit {made_by['git_commit']}; {versions}.",
    ]
    failed = 0
    for name in options.names or available():
        print(f"== {name}", flush=True)
        text, seconds, status = measure(name)
        print(text, flush=True)
        failed += status != 0
        end = "" if status == 0 else f", FAILED with exit status {status}"
        parts.append(f"## {name}\n\n`python -m benchmarks.{name}`, {seconds:.0f} s{end}\n\n```\n{text}\n```")
        write_text(options.out, "\n\n".join(parts) + "\n")
    print(f"written: {options.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
